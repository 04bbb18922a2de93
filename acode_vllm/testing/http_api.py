"""The stand-in's HTTP side: vLLM's endpoints, and two of its own for `StandInServer`.

``POST /standin/faults`` changes faults while it serves (``{"refuse_seconds": 1}`` stops listening for a while),
``GET /standin/state`` tells which requests it received.
"""

from __future__ import annotations

import json
import os
import select
import socket
import socketserver
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

from acode_vllm.io.waits import wait_ready
from acode_vllm.testing import generation as answers
from acode_vllm.testing import vllm_log
from acode_vllm.testing.engine_client import EngineClient, EngineDied
from acode_vllm.testing.faults import Faults


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Bound at once, listening when the model is loaded, as vLLM is."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 2048

    def __init__(self, address: tuple[str, int], name: str, model: str, api_key: str | None) -> None:
        super().__init__(address, Handler, bind_and_activate=False)
        self.server_bind()
        self.name = name
        self.model = model
        self.api_key = api_key
        self.faults = Faults()
        self.engine: EngineClient | None = None
        self.asked: list[str] = []
        self.generations = 0
        self.changed = threading.Condition()
        self.answering = 0

    def listen(self, faults: Faults, engine: EngineClient) -> None:
        """Listen, and answer on threads of its own from now on."""
        self.faults, self.engine = faults, engine
        self.server_activate()
        threading.Thread(target=self.serve_forever, args=(3600,), daemon=True).start()

    def finish_answers(self, seconds: float) -> None:
        """Cut off the running requests, and wait for up to ``seconds`` until their answers are written."""
        assert self.engine is not None
        self.engine.abort_all()
        with self.changed:
            self.changed.wait_for(lambda: self.answering == 0, seconds)

    def refuse_for(self, seconds: float) -> None:
        """Refuse connections for this long: the socket stops listening, and then listens again."""
        self.socket.shutdown(socket.SHUT_RDWR)
        again = threading.Timer(seconds, lambda: self.socket.listen(self.request_queue_size))
        again.daemon = True
        again.start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that disconnects is normal."""


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection, on the thread of that connection."""

    protocol_version = "HTTP/1.1"
    server: Server
    _headers_buffer: list[bytes]
    disable_nagle_algorithm = True
    timeout = 5.0  # as uvicorn's keep-alive in vLLM

    def version_string(self) -> str:
        """Return the name that vLLM's HTTP server gives."""
        return "uvicorn"

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base's name
        """Log a request as uvicorn does."""
        host, port = self.client_address[:2]
        vllm_log.write(f'INFO:     {host}:{port} - "{self.command} {self.path} HTTP/1.1" {arguments[1]} OK')

    def do_GET(self) -> None:
        """Answer a GET."""
        self._counted(self._get)

    def do_POST(self) -> None:
        """Answer a POST."""
        length = int(self.headers.get("Content-Length", 0))
        self.body = self.rfile.read(length)
        self._counted(self._post)

    def _counted(self, answer: Callable[[], None]) -> None:
        with self.server.changed:
            self.server.answering += 1
        try:
            self._guarded(answer)
        finally:
            with self.server.changed:
                self.server.answering -= 1
                self.server.changed.notify_all()

    def _guarded(self, answer: Callable[[], None]) -> None:
        faults = self.server.faults
        self.server.asked.append(f"{self.command} {self.path}")
        if faults.delays.get(self.path):
            threading.Event().wait(faults.delays[self.path])
        if self.path in faults.closes:
            self.close_connection = True
            return
        try:
            if self.path in faults.statuses:
                raise answers.Refusal(faults.statuses[self.path], "by the test's wish", "InternalServerError")
            key = self.server.api_key
            if key and self.path.startswith("/v1") and self.headers.get("Authorization") != f"Bearer {key}":
                self._json(401, {"error": "Unauthorized"})
                return
            answer()
        except answers.Refusal as refusal:
            self._json(refusal.status, refusal.body)
        except EngineDied:
            self._json(500, answers.Refusal(500, answers.ENGINE_DIED, "InternalServerError").body)

    def _get(self) -> None:
        server, engine = self.server, self._engine()
        if self.path == "/health":
            self._send(503 if engine.dead else 200, "", b"")
        elif self.path == "/v1/models":
            self._json(200, answers.models(server.name, server.model))
        elif self.path == "/version":
            self._json(200, {"version": vllm_log.VERSION})
        elif self.path == "/metrics" and server.faults.metrics:
            text = answers.metrics(server.name, engine.running, engine.prompt, engine.generated)
            self._send(200, "text/plain; version=1.0.0; charset=utf-8", text.encode())
        elif self.path == "/standin/state":
            state = {"asked": server.asked, "generations": server.generations, "engine": engine.pid}
            self._json(200, {**state, "running": engine.running})
        else:
            self._json(404, {"detail": "Not Found"})

    def _post(self) -> None:
        server = self.server
        try:
            body = json.loads(self.body)
        except ValueError:
            raise answers.Refusal(400, "1 validation error:\n  {'type': 'json_invalid'}", "Bad Request") from None
        generative = {"/v1/chat/completions": True, "/v1/completions": False}
        if self.path in generative and server.faults.completions:
            wanted = answers.read_generation(generative[self.path], body, server.name, server.faults.chat_template)
            self._generate(wanted)
        elif self.path == "/v1/embeddings" and not server.faults.completions:
            self._embed(body)
        elif self.path == "/standin/faults":
            seconds = body.pop("refuse_seconds", None)
            server.faults = server.faults.changed(body)
            self._json(200, {})
            if seconds is not None:
                server.refuse_for(seconds)
        else:
            self._json(404, {"detail": "Not Found"})

    def _embed(self, body: dict[str, Any]) -> None:
        wanted = answers.read_generation(False, {"prompt": body.get("input"), "max_tokens": 1}, self.server.name, True)
        self._run(wanted, lambda _token, _finish: None)
        data = [{"index": 0, "object": "embedding", "embedding": [0.25, -0.5]}]
        self._json(200, {"object": "list", "model": self.server.name, "data": data, "usage": answers.usage(wanted)})

    def _generate(self, wanted: answers.Wanted) -> None:
        self.server.generations += 1
        if self.server.generations == self.server.faults.crash_at_request:
            for line in self.server.faults.crash_lines:
                vllm_log.write(line)
            os.kill(self._engine().pid, 9)
        if wanted.stream:
            self._stream(wanted)
            return
        pieces: list[str] = []
        finish = self._run(wanted, lambda token, _finish: pieces.append(token))
        if finish:
            self._json(200, answers.whole_answer(self.server.generations, wanted, "".join(pieces), finish))

    def _stream(self, wanted: answers.Wanted) -> None:
        number, begun = self.server.generations, False

        def forward(token: str, finish: str | None) -> None:
            nonlocal begun
            if not begun:
                begun = True
                self._head(200, "text/event-stream; charset=utf-8", None)
                if wanted.chat:
                    self._event(answers.chunk(number, wanted, {"role": "assistant", "content": ""}, None))
            delta = {"content": token} if wanted.chat else token
            self._event(answers.chunk(number, wanted, delta, finish))

        try:
            if not self._run(wanted, forward):
                return
        except EngineDied:
            if not begun:
                raise
            self._event(answers.Refusal(500, answers.ENGINE_DIED, "InternalServerError").body)
        else:
            if wanted.include_usage:
                self._event(answers.usage_chunk(number, wanted))
        self._piece(b"data: [DONE]\n\n")
        self._piece(b"")

    def _run(self, wanted: answers.Wanted, each: Callable[[str, str | None], None]) -> str | None:
        """Generate; returns the finish reason, or None if the client disconnected: the request is aborted then."""
        number, output = self._engine().submit(wanted)
        finish: str | None = None
        client = self.connection.fileno()
        try:
            while finish is None:
                if client in wait_ready({output.fileno(): select.POLLIN, client: select.POLLRDHUP}):
                    self.close_connection = True
                    return None
                output.clear()
                while output.items:
                    item = output.items.popleft()
                    if item is None:
                        raise EngineDied
                    token, done, special = item
                    finish = (special or wanted.finish) if done else None
                    each(token, finish)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
            finish = None
        finally:
            self._engine().release(number, finish is not None)
        return finish

    def _engine(self) -> EngineClient:
        assert self.server.engine is not None
        return self.server.engine

    def _json(self, status: int, content: object) -> None:
        self._send(status, "application/json", json.dumps(content).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self._head(status, kind, len(body))
        pause = self.server.faults.drips.get(self.path)
        if not pause:
            self.wfile.write(body)
            return
        for byte in body:
            threading.Event().wait(pause)
            self.wfile.write(bytes([byte]))

    def _head(self, status: int, kind: str, length: int | None) -> None:
        self.send_response(status)
        if kind:
            self.send_header("content-type", kind)
        if length is None:
            self.send_header("transfer-encoding", "chunked")
        else:
            self.send_header("content-length", str(length))
        pause = self.server.faults.drips.get(self.path)
        if pause and not length:
            head = b"".join(self._headers_buffer) + b"\r\n"
            self._headers_buffer = []
            for byte in head:
                threading.Event().wait(pause)
                self.wfile.write(bytes([byte]))
        else:
            self.end_headers()

    def _event(self, content: object) -> None:
        self._piece(b"data: " + json.dumps(content).encode() + b"\n\n")

    def _piece(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
