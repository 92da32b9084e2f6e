from __future__ import annotations

import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from celery import Task, shared_task
from celery.signals import before_task_publish
from django.conf import settings

from board.models import TaskRun, Tick

if TYPE_CHECKING:
    from uuid import UUID


@shared_task
def record(task: str | UUID) -> None:
    TaskRun.objects.create(task=task, worker=socket.gethostname(), release=settings.RELEASE)


@shared_task(bind=True)
def tick(self: Task) -> None:
    # Both are said by who sent it (below); the worker may run it much later.
    request = self.request
    Tick.objects.create(beat=request.beat, sent=datetime.fromtimestamp(request.sent, tz=UTC))


@before_task_publish.connect(sender="board.tasks.tick")
def sign(headers: dict[str, Any], **_: object) -> None:
    headers["beat"] = socket.gethostname()
    headers["sent"] = datetime.now(tz=UTC).timestamp()
