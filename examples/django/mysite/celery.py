from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.bootsteps import RUN
from celery.exceptions import WorkerShutdown
from celery.signals import worker_ready

if TYPE_CHECKING:
    from collections.abc import Callable

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")

app = Celery("mysite")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

CALM = 1.0
"""Seconds in which tasks that were taken say that they have begun, so that none is given back and run again; and those
that the worker's loop then has to hear that it is to end."""


class Leave:
    """What SIGTERM does: the worker takes no more tasks, and shuts down warmly when those it took have begun.

    One whose broker is away is looking for it, and hears nothing before it has found, over and over again, that the
    name leads nowhere: that ends here. A docker that is stopped takes the broker away first.
    """

    def __init__(self, consumer: Any, warmly: Callable[..., Any]) -> None:
        self._consumer = consumer
        self._warmly = warmly
        self._told = False

    def __call__(self, *_: object) -> None:
        for queue in list(app.amqp.queues.consume_from):
            self._consumer.call_soon(self._consumer.cancel_task_queue, queue)
        # The kernel's own timer: where the broker is away, the worker's loop stands still, and so do those in it.
        signal.signal(signal.SIGALRM, self._leave)
        signal.setitimer(signal.ITIMER_REAL, CALM, CALM)

    def _leave(self, *heard: Any) -> None:
        if not self._told:
            self._told = True
            self._warmly(*heard)
        elif self._consumer.controller.blueprint.state == RUN:  # the loop has not heard it
            raise WorkerShutdown(0)  # tasks at work are waited for all the same


@worker_ready.connect
def leave_gently(sender: Any, **_: object) -> None:
    warmly = signal.getsignal(signal.SIGTERM)
    if not isinstance(warmly, Leave):  # a worker is ready again each time its broker is back
        signal.signal(signal.SIGTERM, Leave(sender, warmly))
