"""A client's end of the control socket: lines to the owner, lines from it, and word of its end."""

from __future__ import annotations

import math
import os
import select
import socket
import threading
import time
from pathlib import Path

from acode_vllm.control.owner_line import MAX_LINE
from acode_vllm.control.protocol import Hello, ProtocolError, ReceivedAnswer, read_reply
from acode_vllm.control.socket import connect, peer_of
from acode_vllm.vocabulary.errors import Problem, error_for
from acode_vllm.vocabulary.line_buffer import LineBuffer, LineTooLongError
from acode_vllm.workers.machine.waits import Wakeup, wait_ready

_READ_BYTES = 64 * 1024


class ConnectionLostError(Exception):
    """The owner has ended, hung up, or does not read: there is no connection any more."""


class ControlClient:
    """A connection to the owner that has said hello. Any thread may send, one receives.

    The owner's end is heard by its socket and, for a process that it forked may hold that open, by its PID.

    Attributes:
        hello: What the owner said of itself.
        pid: Its PID as this process sees it; its own word where it lives in another PID namespace.
    """

    def __init__(self, connection: socket.socket) -> None:
        """Use `reach`."""
        self._socket = connection
        self._lines = LineBuffer(MAX_LINE)
        self._ahead: list[bytes] = []
        self._wakeup = Wakeup()
        self._sending = threading.Lock()
        self._hung_up = False
        self.pid, self._user = peer_of(connection)
        self._owner = _open_pidfd(self.pid)
        self.hello: Hello

    @classmethod
    def reach(cls, path: Path, timeout: float) -> ControlClient | None:
        """Connect and wait for the owner's greeting; None where nobody is to be reached.

        Args:
            path: Of the socket.
            timeout: Seconds that the owner has to greet.

        Raises:
            TimeoutError: There is an owner, and it says nothing: it hangs.
            VllmServiceError: It refused us, or speaks another language.
            OSError: The socket cannot be used.
        """
        connection = connect(path)
        if connection is None:
            return None
        client = cls(connection)
        try:
            if client._user != os.getuid():
                raise error_for(
                    Problem("ACODE-VLM-029", f"The socket {path} is served by another user's process; not used.")
                )
            client.await_hello(time.monotonic() + timeout)
        except ConnectionLostError:
            client.close()
            return None
        except BaseException:
            client.close()
            raise
        return client

    def send(self, line: bytes, timeout: float) -> None:
        """Send a line. Any thread.

        Raises:
            ConnectionLostError: It could not be sent, not all of it, or not in time.
        """
        deadline = time.monotonic() + timeout
        if not self._sending.acquire(timeout=timeout):
            raise ConnectionLostError("the owner does not read")
        try:
            self._send(line, deadline)
        except BaseException:
            self.hang_up()  # part of a line may have been sent: nothing that followed would be understood
            raise
        finally:
            self._sending.release()

    def receive(self, deadline: float = math.inf) -> list[bytes]:
        """Wait for lines. One thread.

        Raises:
            ConnectionLostError: The owner is gone, or `hang_up` was called.
            TimeoutError: Monotonic time ``deadline`` came first.
        """
        while True:
            lines = self._read()
            if lines:
                return lines
            ready = self._wait(self._socket.fileno(), select.POLLIN, deadline)
            if self._owner is not None and self._owner in ready and self._socket.fileno() not in ready:
                raise ConnectionLostError("the owner has ended")

    def hang_up(self) -> None:
        """Have `receive` raise, now and from now on. Any thread."""
        self._hung_up = True
        self._wakeup.wake()

    def close(self) -> None:
        """Give the descriptors back. For the thread that receives, or when there is none."""
        self.hang_up()
        with self._sending:
            self._socket.close()
            self._wakeup.close()
            if self._owner is not None:
                os.close(self._owner)
                self._owner = None

    def await_hello(self, deadline: float) -> None:
        """Wait for the greeting; the first thing to do with a connection. Raises as `receive` and `reach`."""
        first, *more = self.receive(deadline)
        try:
            reply = read_reply(first)
        except ProtocolError as error:
            raise error_for(_strange(self.pid, str(error))) from error
        if isinstance(reply, ReceivedAnswer) and isinstance(reply.value, Problem):
            raise error_for(reply.value)
        if not isinstance(reply, Hello):
            raise error_for(_strange(self.pid, "it did not greet"))
        self.hello = reply
        self.pid = self.pid or reply.pid
        self._ahead = more

    def _read(self) -> list[bytes]:
        if self._hung_up:
            raise ConnectionLostError("hung up")
        if self._ahead:
            lines, self._ahead = self._ahead, []
            return lines
        try:
            data = self._socket.recv(_READ_BYTES)
            lines = self._lines.feed(data)
        except BlockingIOError:
            return []
        except (OSError, LineTooLongError) as error:
            raise ConnectionLostError(str(error)) from error
        if not data:
            raise ConnectionLostError("the owner has hung up")
        return lines

    def _send(self, line: bytes, deadline: float) -> None:
        view = memoryview(line)
        while view:
            if self._hung_up:
                raise ConnectionLostError("hung up")
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                try:
                    self._wait(self._socket.fileno(), select.POLLOUT, deadline)
                except TimeoutError:
                    raise ConnectionLostError("the owner does not read") from None
            except OSError as error:
                raise ConnectionLostError(str(error)) from error

    def _wait(self, fd: int, events: int, deadline: float) -> frozenset[int]:
        waited_for = {fd: events, self._wakeup.fileno(): select.POLLIN}
        if self._owner is not None and events & select.POLLIN:
            waited_for[self._owner] = select.POLLIN
        ready = wait_ready(waited_for, deadline)
        if not ready:
            raise TimeoutError
        return ready


def _strange(pid: int, why: str) -> Problem:
    return Problem(
        "ACODE-VLM-028",
        f"The process with PID {pid} owns the service and cannot be understood: {why}.",
        "It may be another version of acode-vllm: end it; the server lives on and is taken over by the next one.",
    )


def _open_pidfd(pid: int) -> int | None:
    opener = getattr(os, "pidfd_open", None)  # not in every build of Python
    try:
        return opener(pid) if opener is not None and pid > 0 else None
    except OSError:
        return None
