from django.urls import path

from board import views

urlpatterns = [
    path("", views.home),
    path("healthz", views.healthz),
    path("upload", views.upload),
    path("rows", views.rows),
    path("sleep", views.sleep),
    path("enqueue", views.enqueue),
    path("tasks", views.tasks),
    path("ticks", views.ticks),
    path("stream", views.stream),
]
