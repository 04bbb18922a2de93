"""A model hub on loopback, as much of Hugging Face's as its real client and vLLM ask for.

`HF_ENDPOINT` points them here. Every way in which a hub fails can be played: refusals with the hub's own status and
headers, a hub that answers slowly or never, and a download that is cut. It counts what it was asked, and by whom.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

CHUNK = 64 * 1024
_APART = (".safetensors", ".bin")


@dataclass
class FakeRepo:
    """A model on the hub.

    Attributes:
        files: Name → content.
        private: Only a token in ``allowed`` sees that it exists.
        gated: Everybody sees that it exists; only a token in ``allowed`` may fetch its files.
        allowed: Tokens with permission.
    """

    files: Mapping[str, bytes]
    private: bool = False
    gated: bool = False
    allowed: frozenset[str] = frozenset()

    @property
    def commit(self) -> str:
        """The commit hash, made from the files' names and contents."""
        digest = hashlib.sha1(usedforsecurity=False)
        for name, content in sorted(self.files.items()):
            digest.update(name.encode() + hashlib.sha256(content).digest())
        return digest.hexdigest()


@dataclass(frozen=True)
class Asked:
    """One request that the hub received."""

    method: str
    path: str
    token: str | None
    first_byte: int = 0
    """Where the part of the file begins that was asked for; more than 0 for a download that is resumed."""


@dataclass
class FakeHub:
    """The hub. Its fields may be changed while it runs.

    Attributes:
        repos: ID → model.
        known_tokens: Tokens of some account; any other is answered "Invalid username or password".
        asked: Every request, in order.
        answer_delay: Seconds before each answer.
        bytes_per_second: Speed of a file's body; None for as fast as possible.
        cut_after: The connection ends at this byte of a file; None for never.
        cuts: How often it does so; then never again. None for always.
        stall_after: Nothing more comes from this byte of a file on, and the connection stays; None for never.
        altered_at: This byte of a file's body arrives as another one; None for never.
        silent: Accept, and never answer.
        status: Answer everything with this status; None for the truth.
    """

    repos: dict[str, FakeRepo] = field(default_factory=dict)
    known_tokens: set[str] = field(default_factory=set)
    asked: list[Asked] = field(default_factory=list)
    answer_delay: float = 0.0
    bytes_per_second: float | None = None
    cut_after: int | None = None
    cuts: int | None = None
    stall_after: int | None = None
    altered_at: int | None = None
    silent: bool = False
    status: int | None = None
    url: str = ""
    closing: threading.Event = field(default_factory=threading.Event)
    _server: ThreadingHTTPServer | None = None

    def put_folder(self, repo_id: str, folder: Path, **how: Any) -> FakeRepo:
        """Publish a folder's files under an ID."""
        files = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
        repo = self.repos[repo_id] = FakeRepo(files, **how)
        return repo

    @contextmanager
    def serve(self) -> Iterator[FakeHub]:
        """Answer on a free port of loopback until the block ends."""
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = False
        self._server = server
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="fake-hub")
        thread.start()
        try:
            yield self
        finally:
            self.go_down()
            thread.join()

    def go_down(self) -> None:
        """Answer nothing more: connections are refused from now on, and those that there are end."""
        self.closing.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@dataclass(frozen=True)
class _RefusedError(Exception):
    status: int
    code: str
    message: str


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"
    timeout = 5

    def log_message(self, *args: object) -> None:
        """Say nothing: the requests are in `FakeHub.asked`."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(Asked(self.command, path, self._token(), self._first_byte()))
        self.close_connection = True
        if self.hub.silent:
            self.hub.closing.wait(60)
            return
        if self.hub.answer_delay:
            self.hub.closing.wait(self.hub.answer_delay)
        try:
            if self.hub.status is not None:
                raise _RefusedError(self.hub.status, "", "the hub is out of order")
            self._route(path)
        except _RefusedError as refusal:
            body = json.dumps({"error": refusal.message}).encode()
            headers = {"x-error-code": refusal.code} if refusal.code else {}
            self._send(refusal.status, body, {**headers, "x-error-message": refusal.message})
        except (BrokenPipeError, ConnectionResetError):
            return

    def _first_byte(self) -> int:
        wanted = re.match(r"bytes=(\d+)-", self.headers.get("range", ""))
        return int(wanted[1]) if wanted else 0

    def _token(self) -> str | None:
        words = self.headers.get("authorization", "").split()
        return words[1] if len(words) == 2 else None

    def _repo(self, repo_id: str, *, for_file: bool) -> FakeRepo:
        token = self._token()
        if token is not None and token not in self.hub.known_tokens:
            raise _RefusedError(401, "", "Invalid username or password.")
        repo = self.hub.repos.get(repo_id)
        permitted = repo is not None and token in repo.allowed
        if repo is None or (repo.private and not permitted):
            # The hub does not tell a stranger whether a private model exists: 401 for both (404 with a token).
            if token is None:
                raise _RefusedError(401, "RepoNotFound", "Invalid username or password.")
            raise _RefusedError(404, "RepoNotFound", "Repository not found")
        if repo.gated and for_file and not permitted:
            if token is None:
                raise _RefusedError(
                    401,
                    "GatedRepo",
                    f"Access to model {repo_id} is restricted. You must have access to it and be "
                    "authenticated to access it. Please log in.",
                )
            raise _RefusedError(
                403,
                "GatedRepo",
                f"Access to model {repo_id} is restricted and you are not in the authorized list. "
                f"Visit https://huggingface.co/{repo_id} to ask for access.",
            )
        return repo

    def _route(self, path: str) -> None:
        if path == "/api/whoami-v2":
            if self._token() not in self.hub.known_tokens:
                raise _RefusedError(401, "", "Invalid username or password.")
            return self._json({"name": "tester", "type": "user", "auth": {"type": "access_token"}})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/[^/]+)?", path):
            return self._json(self._info(found[1], self._repo(found[1], for_file=False)))
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/[^/]+/?(.*)", path):
            repo = self._repo(found[1], for_file=True)
            return self._json(
                [
                    {"type": "file", "path": name, "size": len(content), "oid": _etag(content, name)}
                    for name, content in repo.files.items()
                    if name.startswith(found[2])
                ]
            )
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._file(self._repo(found[1], for_file=True), found[3])
        raise _RefusedError(404, "RepoNotFound", "Repository not found")

    @staticmethod
    def _info(repo_id: str, repo: FakeRepo) -> dict[str, object]:
        return {
            "_id": "0",
            "id": repo_id,
            "modelId": repo_id,
            "sha": repo.commit,
            "private": repo.private,
            "gated": "manual" if repo.gated else False,
            "disabled": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": [
                {"rfilename": name, "size": len(content), "blobId": _etag(content, name)}
                for name, content in repo.files.items()
            ],
        }

    def _file(self, repo: FakeRepo, name: str) -> None:
        content = repo.files.get(name)
        headers = {"x-repo-commit": repo.commit}
        if content is None:
            body = b"Entry not found"
            headers |= {"x-error-code": "EntryNotFound", "x-error-message": "Entry not found"}
            self._send(404, body, headers)
            return
        headers |= {
            "etag": f'"{_etag(content, name)}"',
            "accept-ranges": "bytes",
            "content-type": "application/octet-stream",
        }
        status, first = 200, self._first_byte()
        if 0 < first < len(content):
            status = 206
            headers["content-range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        else:
            first = 0
        self._send(status, content[first:], headers, first=first)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"content-type": "application/json"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], *, first: int | None = None) -> None:
        """Send an answer; ``first`` is the place in its file of the part that is sent, None where it is no file."""
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("content-length", str(len(body)))
        self.send_header("connection", "close")
        self.end_headers()
        if self.command == "HEAD":
            return
        if first is not None and self.hub.cut_after is not None and first + len(body) > self.hub.cut_after:
            body = body[: max(0, self.hub.cut_after - first)]
            if self.hub.cuts is not None:
                self.hub.cuts -= 1
                self.hub.cut_after = self.hub.cut_after if self.hub.cuts > 0 else None
        if first is not None and self.hub.altered_at is not None and first <= self.hub.altered_at < first + len(body):
            place = self.hub.altered_at - first
            body = body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
        for start in range(0, len(body), CHUNK):
            if first is not None and self.hub.stall_after is not None and first + start >= self.hub.stall_after:
                self.hub.closing.wait(60)
                return
            piece = body[start : start + CHUNK]
            self.wfile.write(piece)
            speed = self.hub.bytes_per_second
            if first is not None and speed and self.hub.closing.wait(len(piece) / speed):
                return


def _etag(content: bytes, name: str) -> str:
    """As the hub has it: the SHA-256 of what is kept apart from Git (LFS), a shorter hash of anything else."""
    if name.endswith(_APART):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
