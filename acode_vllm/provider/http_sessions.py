"""Sessions of ``requests`` for many threads: each request has one to itself, and connections are reused.

``requests`` does not promise that a session may be shared between threads, so an idle one is lent out. Another thread
may cut the connection of one that is lent (`SessionPool.close`), which ends the wait for its answer at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, LineTooLong
from ipaddress import ip_address
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase
from urllib3.exceptions import DecodeError, IncompleteRead, InvalidChunkLength, ReadTimeoutError

from acode_vllm.provider.http_line import Line, LineAdapter

CONNECT_SECONDS = 5.0
"""A server that takes longer to accept a connection is not there."""


class Bearer(AuthBase):
    """Sends the API key, if there is one, and keeps requests from looking for another in ``~/.netrc``."""

    def __init__(self, key: str | None) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Put the key on the request."""
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


class HttpSession(requests.Session):
    """A session with one connection, which any thread may cut."""

    def __init__(self, on_slow: Callable[[], None]) -> None:
        super().__init__()
        self.line = Line(on_slow)
        for scheme in ("http://", "https://"):
            self.mount(scheme, LineAdapter(self.line))


class SessionPool:
    """Idle sessions; any thread may borrow.

    Args:
        on_slow: Called when an answer takes long to begin; see `Line`.
    """

    def __init__(self, on_slow: Callable[[], None]) -> None:
        self._on_slow = on_slow
        self._lock = threading.Lock()
        self._idle: list[HttpSession] = []
        self._lent: set[HttpSession] = set()
        self._closed = False

    def take(self, url: str) -> HttpSession:
        """Borrow a session; the last one used, whose connection is the likeliest to be open still."""
        with self._lock:
            session = self._idle.pop() if self._idle else None
        if session is None:
            session = HttpSession(self._on_slow)
        # A proxy of the environment is for what is elsewhere; on loopback it would be asked for its own machine.
        session.trust_env = not is_loopback(url)
        return session

    def give_back(self, session: HttpSession) -> None:
        """Lend it to the next."""
        with self._lock:
            if not self._closed:
                self._idle.append(session)
                return
        session.close()

    @contextmanager
    def borrowed(self, url: str) -> Iterator[HttpSession]:
        """One for the time of the block; closed instead of given back where the block fails."""
        session = self.take(url)
        with self._lock:
            self._lent.add(session)
            if self._closed:
                session.line.cut()
        try:
            yield session
        except BaseException:
            session.close()
            raise
        finally:
            with self._lock:
                self._lent.discard(session)
        self.give_back(session)

    def close(self) -> None:
        """Close what is idle now, and what is given back later; cut what is `borrowed`, and will be."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for session in self._lent:
                session.line.cut()
        for session in idle:
            session.close()


def is_loopback(url: str) -> bool:
    """Whether a URL is of this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_silence(error: Exception) -> bool:
    """Whether the server accepted the connection and then said nothing for too long.

    In the middle of a body that is no `requests.Timeout`, but a connection error around urllib3's.
    """
    silent = (requests.ReadTimeout, ReadTimeoutError)
    return isinstance(error, silent) or any(isinstance(each, ReadTimeoutError) for each in error.args)


def reason_of(error: Exception, timeout: float) -> str:
    """Why an exchange failed, in a few words.

    An exception of requests wraps one of urllib3, which wraps one of http.client or of the system: never their words.
    """
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {CONNECT_SECONDS:g} s"
    if is_silence(error):
        return f"no answer within {round(timeout, 2):g} s"
    for cause in _chain(error):
        if isinstance(cause, LineTooLong):
            return "a line of its answer has no end"
        if isinstance(cause, DecodeError):
            return "its answer cannot be unpacked"
        if isinstance(cause, (IncompleteRead, InvalidChunkLength)):
            return "it hung up in the middle of its answer"
        if isinstance(cause, HTTPException) and not isinstance(cause, OSError):
            return "it does not speak HTTP"
    words = [cause.strerror for cause in _chain(error) if isinstance(cause, OSError) and cause.strerror]
    return f"connection failed: {words[-1]}" if words else "it hung up without an answer"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and those that it was raised from, or holds; the innermost last."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
