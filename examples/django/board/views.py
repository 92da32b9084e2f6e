"""Small views that make a deploy visible: each shows one thing that a bad one loses."""

from __future__ import annotations

import hashlib
import time
from tempfile import TemporaryFile
from typing import TYPE_CHECKING
from uuid import uuid4

from django.conf import settings
from django.core.files import File
from django.core.files.storage import default_storage
from django.db import connection
from django.db.models import Count
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from board.models import Row, TaskRun, Tick
from board.tasks import record

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 64 * 1024


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    rows = Row.objects.order_by("-created")[:10]
    return render(request, "board/home.html", {"release": settings.RELEASE, "rows": rows})


@require_GET
def healthz(_: HttpRequest) -> HttpResponse:
    """Fit for the stage: the process answers, and has a database."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return HttpResponse("ok\n", content_type="text/plain")


@csrf_exempt  # posted to by load generators, as are the others below
@require_http_methods(["GET", "POST"])
def rows(request: HttpRequest) -> JsonResponse:
    if request.method == "POST":
        row = Row.objects.create(text=request.POST.get("text", ""))
        return JsonResponse({"id": row.pk, "count": Row.objects.count()}, status=201)
    return JsonResponse({"count": Row.objects.count()})


@csrf_exempt
@require_POST
def upload(request: HttpRequest) -> JsonResponse:
    """Store a form's first file, or else the body as it is, without ever holding all of it in memory."""
    digest = hashlib.sha256()
    with TemporaryFile() as whole:
        for chunk in _uploaded(request):
            digest.update(chunk)
            whole.write(chunk)
        size = whole.tell()
        name = default_storage.save(f"uploads/{uuid4()}.bin", File(whole))
    return JsonResponse({"url": default_storage.url(name), "sha256": digest.hexdigest(), "size": size}, status=201)


def _uploaded(request: HttpRequest) -> Iterator[bytes]:
    if request.content_type == "multipart/form-data":
        for file in list(request.FILES.values())[:1]:
            yield from file.chunks(CHUNK)
    else:
        while chunk := request.read(CHUNK):
            yield chunk


@require_GET
def sleep(request: HttpRequest) -> JsonResponse:
    seconds = _seconds(request)
    time.sleep(seconds)
    return JsonResponse({"slept": seconds})


@require_GET
def stream(request: HttpRequest) -> StreamingHttpResponse:
    """Server-sent events, five a second. One that a deploy cut lacks its end."""
    response = StreamingHttpResponse(_events(_seconds(request)), content_type="text/event-stream")
    response["Cache-Control"] = "no-cache"
    response["X-Accel-Buffering"] = "no"  # or nginx would collect events until its buffer is full
    return response


def _events(seconds: float) -> Iterator[str]:
    for number in range(round(seconds * 5)):
        yield f"id: {number}\ndata: {settings.RELEASE}\n\n"
        time.sleep(0.2)
    yield f"event: end\ndata: {settings.RELEASE}\n\n"


@csrf_exempt
@require_POST
def enqueue(request: HttpRequest) -> JsonResponse:
    ids = [str(uuid4()) for _ in range(_number(request, "n", default=1, most=1000))]
    for task in ids:
        record.delay(task)
    return JsonResponse({"tasks": ids}, status=202)


@require_GET
def tasks(_: HttpRequest) -> JsonResponse:
    """What was enqueued and is not here was lost; what has duplicates was run twice."""
    found = TaskRun.objects.aggregate(count=Count("pk"), distinct=Count("task", distinct=True))
    return JsonResponse(found | {"duplicates": found["count"] - found["distinct"]})


@require_GET
def ticks(request: HttpRequest) -> JsonResponse:
    last = Tick.objects.order_by("-sent")[: _number(request, "n", default=60, most=1000)]
    return JsonResponse({"ticks": [{"beat": tick.beat, "sent": tick.sent, "ran": tick.ran} for tick in last]})


def _number(request: HttpRequest, name: str, *, default: int, most: int) -> int:
    given = request.GET.get(name, "")
    return min(int(given), most) if given.isdecimal() else default


def _seconds(request: HttpRequest) -> float:
    try:
        return min(max(0.0, float(request.GET.get("seconds", "1"))), 60.0)
    except ValueError:
        return 1
