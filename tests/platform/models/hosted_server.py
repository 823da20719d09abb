"""A local server that speaks the two hosted protocols, as their pages document them in November 2026.

It draws a picture from the prompt, checks the form of each request, and plays the troubles it is told to play first.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

KEY = "test-key-3f9a7c"
PNG_SIZE = 24


def picture_of(prompt: str) -> np.ndarray:
    """The picture the server draws for a prompt."""
    seed = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).integers(0, 256, (PNG_SIZE, PNG_SIZE, 3), dtype=np.uint8)


def png_of(prompt: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture_of(prompt)).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class Trouble:
    """An answer in place of a picture: state, JSON body (or raw bytes), headers; or no answer at all."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False


@dataclass
class Played:
    """What the server was asked, and what it shall do next; troubles are used up in order."""

    troubles: list[Trouble] = field(default_factory=list)
    by_prompt: dict[str, Trouble] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    address: str = ""
    gate: threading.Barrier | None = None
    """Where requests wait for each other before they are answered."""


@contextmanager
def serve() -> Iterator[Played]:
    played = Played()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            assert "x-goog-api-key" not in self.headers
            assert "Authorization" not in self.headers
            self._send(200, png_of(self.path.removeprefix("/pictures/")), {"Content-Type": "image/png"})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with played.lock:
                played.in_flight += 1
                played.most_in_flight = max(played.most_in_flight, played.in_flight)
                played.asked.append({"path": self.path, "body": body, "headers": dict(self.headers)})
                trouble = played.troubles.pop(0) if played.troubles else None
            if played.gate is not None:
                played.gate.wait(600)
            status, answer, headers = self._answer(body)
            if trouble is None:
                trouble = played.by_prompt.get(_prompt(body))
            if trouble is not None and trouble.drop:
                self.close_connection = True
                self.connection.close()
            elif trouble is not None:
                self._send(trouble.status, trouble.body, trouble.headers)
            else:
                self._send(status, answer, headers)
            with played.lock:
                played.in_flight -= 1

        def _answer(self, body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
            if self.path.endswith(":generateContent"):
                if self.headers["x-goog-api-key"] != KEY:
                    error = {"code": 400, "message": "API key not valid. Please pass a valid API key."}
                    return 400, {"error": error | {"status": "INVALID_ARGUMENT"}}, {}
                return 200, gemini_answer(body), {}
            if self.path == "/images/generations":
                if self.headers["Authorization"] != f"Bearer {KEY}":
                    message = f"Incorrect API key provided: {self.headers['Authorization'].split()[-1]}."
                    return 401, {"error": {"message": message, "code": "invalid_api_key"}}, {}
                return 200, openai_answer(body, played.address), {}
            return 404, {"error": {"code": 404, "message": f"no {self.path}", "status": "NOT_FOUND"}}, {}

        def _send(self, status: int, body: Any, headers: dict[str, str]) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    played.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield played
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _prompt(body: dict[str, Any]) -> str:
    return str(body["prompt"] if "prompt" in body else body["contents"][0]["parts"][0]["text"])


def gemini_answer(body: dict[str, Any]) -> dict[str, Any]:
    """`GenerateContentResponse` with a thought, a text and the picture."""
    assert set(body) == {"contents", "generationConfig"}
    assert body["contents"][0]["role"] == "user"
    config = body["generationConfig"]
    assert config["responseModalities"] == ["IMAGE"]
    assert -(2**31) <= config["seed"] < 2**31
    draft = base64.b64encode(png_of("a draft")).decode()
    data = base64.b64encode(png_of(_prompt(body))).decode()
    parts = [
        {"thought": True, "inlineData": {"mimeType": "image/png", "data": draft}},
        {"text": "Here it is."},
        {"inlineData": {"mimeType": "image/png", "data": data}},
    ]
    candidate = {"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}
    return {"candidates": [candidate], "modelVersion": "gemini-image-007", "usageMetadata": {"totalTokenCount": 1290}}


def openai_answer(body: dict[str, Any], address: str) -> dict[str, Any]:
    """`ImagesResponse`, base64 unless an address is asked for."""
    assert body["n"] == 1
    assert isinstance(body["model"], str)
    if body.get("response_format") == "url":
        return {"created": 1, "data": [{"url": f"{address}/pictures/{body['prompt']}"}]}
    return {"created": 1, "data": [{"b64_json": base64.b64encode(png_of(body["prompt"])).decode()}]}
