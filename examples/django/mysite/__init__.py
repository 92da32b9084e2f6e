# Imported with Django, so that tasks sent from a view find the broker.
from mysite.celery import app as celery_app

__all__ = ["celery_app"]
