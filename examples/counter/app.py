"""A web app of the standard library alone: it counts in redis, and says which release it is."""

from __future__ import annotations

import os
import signal
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RELEASE = os.environ.get("RELEASE", "local")
REDIS = os.environ.get("REDIS_HOST", "redis")
GREETING = "Hello"


def redis(*words: str) -> str:
    """Say one command, and return the one line of its answer (redis.io, RESP)."""
    request = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
    with socket.create_connection((REDIS, 6379), timeout=5) as link, link.makefile("rwb") as wire:
        wire.write(request.encode())
        wire.flush()
        return wire.readline().decode().strip().lstrip("+:$")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/healthz":
            self.answer(redis("PING"))
        else:
            self.answer(f"{GREETING}, visitor {redis('INCR', 'visitors')}")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(redis("INCR", "posts"))

    def answer(self, text: str) -> None:
        body = f"{text}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Release", RELEASE)
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    ThreadingHTTPServer(("", 8000), Handler).serve_forever()
