"""Exchanges with the server, by the library and by a bare ``requests.Session``, by turns in one process."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import requests

from acode_vllm import VllmProvider, VllmServiceOrchestrator

MESSAGES = [{"role": "user", "content": "hello"}]
TOKENS = 4


def compare(vllm: VllmServiceOrchestrator, what: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of each; after a few that are not counted."""
    vllm.ensure_healthy()
    with requests.Session() as session, VllmProvider(vllm) as provider:
        session.trust_env = False  # a session of ours does not look for proxies either
        ours, bare = _SIDES[what](vllm, provider, session)
        taken: dict[str, list[float]] = {"ours": [], "bare": []}
        for number in range(-10, rounds):
            sides = [("ours", ours), ("bare", bare)]
            for name, side in sides if number % 2 else reversed(sides):
                seconds = side()
                if number >= 0:
                    taken[name].append(seconds)
        return taken


Side = Callable[[], float]


def _check(vllm: VllmServiceOrchestrator, provider: VllmProvider, session: requests.Session) -> tuple[Side, Side]:
    root = vllm.base_url.removesuffix("/v1")

    def ours() -> float:
        vllm._doubted_at = time.monotonic()  # as after a failed request: no earlier check vouches for it
        return _timed(vllm.ensure_healthy)

    def bare() -> float:
        return _timed(lambda: (session.get(f"{root}/health").content, session.get(f"{root}/v1/models").json()))

    return ours, bare


def _wire(vllm: VllmServiceOrchestrator, provider: VllmProvider, session: requests.Session) -> tuple[Side, Side]:
    """What a check asks of the server, on a new connection, and nothing else: the limit of a check."""
    _, bare = _check(vllm, provider, session)
    url = urlsplit(vllm.base_url)
    body = json.dumps({"model": vllm.served_model_name, "prompt": "a", "max_tokens": 1, "temperature": 0})
    post = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    asks = [f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in ("/health", "/v1/models", "/metrics")]
    asks.append(f"{post}\r\n\r\n{body}".encode())

    def exchanges() -> None:
        with socket.create_connection((url.hostname or "", url.port or 0)) as connection:
            for ask in asks:
                connection.sendall(ask)
                _receive(connection)

    return lambda: _timed(exchanges), bare


def _receive(connection: socket.socket) -> None:
    received = b""
    while True:
        received += connection.recv(65536)
        head, end, content = received.partition(b"\r\n\r\n")
        if end and len(content) >= int(head.lower().partition(b"content-length:")[2].split()[0]):
            return


def _plain(vllm: VllmServiceOrchestrator, provider: VllmProvider, session: requests.Session) -> tuple[Side, Side]:
    url, payload = f"{vllm.base_url}/chat/completions", _payload(vllm)

    def ours() -> float:
        return _timed(lambda: provider.chat(MESSAGES, max_tokens=TOKENS).text)

    def bare() -> float:
        return _timed(lambda: session.post(url, json=payload).json())

    return ours, bare


def _first_token(vllm: VllmServiceOrchestrator, provider: VllmProvider, session: requests.Session) -> tuple[Side, Side]:
    url, payload = f"{vllm.base_url}/chat/completions", {**_payload(vllm), "stream": True}

    def ours() -> float:
        begun = time.perf_counter()
        with provider.stream_chat(MESSAGES, max_tokens=TOKENS) as stream:
            pieces = iter(stream.text)
            next(pieces)
            seconds = time.perf_counter() - begun
            for _ in pieces:
                pass
        return seconds

    def bare() -> float:
        begun = time.perf_counter()
        with session.post(url, json=payload, stream=True) as response:
            lines = response.iter_lines(chunk_size=None)
            while not _text_of(next(lines)):  # the first event names the role, and holds no text
                pass
            seconds = time.perf_counter() - begun
            for _ in lines:
                pass
        return seconds

    return ours, bare


def _text_of(line: bytes) -> str:
    return json.loads(line[len(b"data: ") :])["choices"][0]["delta"].get("content", "") if line else ""


def _payload(vllm: VllmServiceOrchestrator) -> dict[str, object]:
    return {"model": vllm.served_model_name, "messages": MESSAGES, "max_tokens": TOKENS}


def _timed(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


_SIDES = {"check": _check, "wire": _wire, "plain": _plain, "first_token": _first_token}
