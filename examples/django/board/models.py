from django.db import models


class Row(models.Model):
    text = models.CharField(max_length=200, blank=True)
    created = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.text


class TaskRun(models.Model):
    """One run of one task. On purpose nothing here is unique: a task that ran twice has two."""

    task = models.UUIDField(db_index=True)
    worker = models.CharField(max_length=100)
    release = models.CharField(max_length=100)
    ran = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.task} on {self.worker}"


class Tick(models.Model):
    """One second of one beat: two beats at work show as two hosts, or as two ticks within a second of sending."""

    beat = models.CharField(max_length=100)
    sent = models.DateTimeField()
    ran = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.sent:%H:%M:%S} by {self.beat}"
