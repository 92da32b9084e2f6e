"""A FastAPI app with a web socket: it answers every word, and says which release it is."""

from __future__ import annotations

import os

from fastapi import FastAPI, Response, WebSocket, WebSocketDisconnect

RELEASE = os.environ.get("RELEASE", "local")
GREETING = "hello"

app = FastAPI()


@app.get("/healthz")
@app.get("/")
async def home(response: Response) -> dict[str, str]:
    response.headers["X-Release"] = RELEASE
    return {"says": GREETING}


@app.websocket("/chat")
async def chat(socket: WebSocket) -> None:
    await socket.accept()
    try:
        while True:
            word = await socket.receive_text()
            await socket.send_text(f"{RELEASE}: {word}")
    except WebSocketDisconnect:
        pass
