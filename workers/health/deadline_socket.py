"""A stream socket whose whole exchange has one deadline, and which another thread can interrupt.

A time-out set on a plain socket counts from each byte: a server that drips one byte a second is never late.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from acode_vllm.io.waits import Interrupt, wait_ready

if TYPE_CHECKING:
    import ssl

_T = TypeVar("_T")
_Address = tuple[socket.AddressFamily, int, tuple[Any, ...]]


class DeadlineSocket:
    """One connection; one thread uses it.

    Attributes:
        deadline: When everything must be over, on ``time.monotonic()``; set anew for each exchange.
    """

    def __init__(self, host: str, port: int, deadline: float, interrupt: Interrupt, tls: ssl.SSLContext | None) -> None:
        """Connect.

        Raises:
            OSError: It cannot be reached (``ConnectionRefusedError`` if nobody listens), or its certificate
                cannot be trusted (``ssl.SSLError``).
            TimeoutError: The deadline came first.
            Interrupted: The switch was pressed.
        """
        self.deadline = deadline
        self._interrupt = interrupt
        self._blocked: tuple[type[Exception], ...] = (BlockingIOError,)
        self._wants_to_write: type[Exception] | tuple[()] = ()
        self._socket = self._reach(host, port)
        if tls is not None:
            from ssl import SSLWantReadError, SSLWantWriteError  # 4 MB, which only https costs

            self._blocked, self._wants_to_write = (SSLWantReadError, SSLWantWriteError), SSLWantWriteError
            try:
                secured = tls.wrap_socket(self._socket, server_hostname=host, do_handshake_on_connect=False)
                self._socket = secured
                self._retry(secured.do_handshake, select.POLLIN)
            except BaseException:
                self._socket.close()
                raise

    @property
    def stale(self) -> bool:
        """Whether an idle connection has something to read, which can only be its end."""
        return bool(wait_ready({self._socket.fileno(): select.POLLIN}, 0.0))

    def sendall(self, data: bytes) -> None:
        """Send everything by the deadline."""
        view = memoryview(data)
        while view:
            view = view[self._retry(partial(self._socket.send, view), select.POLLOUT) :]

    def receive(self, most: int) -> bytes:
        """Receive what has arrived, at least one byte, by the deadline; empty at the end of the stream."""
        return self._retry(partial(self._socket.recv, most), select.POLLIN)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _reach(self, host: str, port: int) -> socket.socket:
        failure: OSError | None = None
        for family, protocol, address in _resolve(host, port, self.deadline, self._interrupt):
            candidate = socket.socket(family, socket.SOCK_STREAM, protocol)
            try:
                candidate.setblocking(False)
                self._connect(candidate, address)
            except TimeoutError:
                candidate.close()
                raise
            except OSError as error:
                candidate.close()
                failure = error
            except BaseException:
                candidate.close()
                raise
            else:
                candidate.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return candidate
        raise failure or OSError(f"{host} has no address")

    def _connect(self, candidate: socket.socket, address: tuple[Any, ...]) -> None:
        try:
            candidate.connect(address)
        except BlockingIOError:
            self._interrupt.wait(candidate.fileno(), select.POLLOUT, self.deadline)
            code = candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                # OSError picks the class of the code: ConnectionRefusedError and so on.
                raise OSError(code, os.strerror(code)) from None

    def _retry(self, operation: Callable[[], _T], events: int) -> _T:
        while True:
            self._interrupt.check()
            if time.monotonic() >= self.deadline:
                raise TimeoutError("the deadline has passed")
            try:
                return operation()
            except self._blocked as blocked:
                if not isinstance(blocked, BlockingIOError):  # TLS may have to read in order to write, and vice versa
                    events = select.POLLOUT if isinstance(blocked, self._wants_to_write) else select.POLLIN
                self._interrupt.wait(self._socket.fileno(), events, self.deadline)


def _resolve(host: str, port: int, deadline: float, interrupt: Interrupt) -> list[_Address]:
    """Addresses of ``host``; a name is looked up on a thread of its own, since that cannot be interrupted."""
    try:
        return _addresses(host, port, socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass
    found: list[_Address] = []
    failures: list[OSError] = []
    done = Interrupt()

    def look_up() -> None:
        try:
            found.extend(_addresses(host, port, 0))
        except OSError as error:
            failures.append(error)
        done.press()

    threading.Thread(target=look_up, name="acode-resolve", daemon=True).start()
    try:
        interrupt.wait(done.fileno(), select.POLLIN, deadline)
    finally:
        done.close()
    if failures:
        raise failures[0]
    return found


def _addresses(host: str, port: int, flags: int) -> list[_Address]:
    # As bytes: for a str, Python loads the code for international names, half a megabyte.
    name = host.encode("ascii") if host.isascii() else host
    entries = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, protocol, address) for family, _, protocol, _, address in entries]
