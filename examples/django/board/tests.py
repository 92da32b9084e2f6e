from __future__ import annotations

import hashlib
import socket
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import SimpleTestCase, TestCase, override_settings

from board.models import Tick
from board.tasks import record, sign
from mysite import env
from mysite.celery import app

PLAIN_STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},  # nothing is collected here
}


@override_settings(ALLOWED_HOSTS=["testserver"], RELEASE="r1", STORAGES=PLAIN_STORAGES)
class BoardTest(TestCase):
    def test_every_answer_carries_the_release(self) -> None:
        for path in ("/", "/healthz", "/rows", "/nowhere"):
            self.assertEqual(self.client.get(path)["X-Release"], "r1", path)

    def test_the_page_names_the_release_and_a_stylesheet(self) -> None:
        self.assertContains(self.client.get("/"), "<code>r1</code>", html=True)
        self.assertContains(self.client.get("/"), "/static/board/board.css")

    def test_a_posted_row_is_counted(self) -> None:
        self.assertEqual(self.client.post("/rows", {"text": "hello"}).json()["count"], 1)
        self.assertEqual(self.client.get("/rows").json(), {"count": 1})

    def test_an_upload_is_stored_whole_as_a_body_and_as_a_form(self) -> None:
        data = bytes(range(256)) * 1000
        with tempfile.TemporaryDirectory() as media, override_settings(MEDIA_ROOT=media):
            for answer in (
                self.client.post("/upload", data, content_type="application/octet-stream"),
                self.client.post("/upload", {"file": SimpleUploadedFile("name.bin", data)}),
            ):
                said = answer.json()
                self.assertEqual((said["size"], said["sha256"]), (len(data), hashlib.sha256(data).hexdigest()))
                stored = Path(media, said["url"].removeprefix(settings.MEDIA_URL))
                self.assertEqual(stored.read_bytes(), data)

    def test_a_task_that_runs_twice_shows(self) -> None:
        app.conf.task_always_eager = True
        self.addCleanup(setattr, app.conf, "task_always_eager", False)
        ids = self.client.post("/enqueue?n=3").json()["tasks"]
        record(ids[0])
        self.assertEqual(self.client.get("/tasks").json(), {"count": 4, "distinct": 3, "duplicates": 1})

    def test_a_tick_says_who_sent_it_and_when(self) -> None:
        headers: dict[str, object] = {}
        sign(headers)
        self.assertEqual(headers["beat"], socket.gethostname())
        Tick.objects.create(beat="b", sent=datetime.fromtimestamp(0, tz=UTC))
        self.assertEqual(self.client.get("/ticks?n=1").json()["ticks"][0]["sent"], "1970-01-01T00:00:00Z")

    def test_a_stream_ends_with_its_end(self) -> None:
        answer = self.client.get("/stream?seconds=0.4")
        events = b"".join(answer.streaming_content).decode().split("\n\n")
        self.assertEqual(events[0], "id: 0\ndata: r1")
        self.assertEqual(events[-2], "event: end\ndata: r1")
        self.assertEqual(answer["X-Accel-Buffering"], "no")


class EnvTest(SimpleTestCase):
    def test_a_database_url_is_taken_apart(self) -> None:
        found = env.database("postgres://me:p%40ss@db.example.com:6432/shop")
        place = {"HOST": "db.example.com", "PORT": "6432", "NAME": "shop", "USER": "me", "PASSWORD": "p@ss"}
        self.assertEqual(found | place, found)
        self.assertEqual(env.database("sqlite:////srv/db.sqlite3")["NAME"], "/srv/db.sqlite3")
