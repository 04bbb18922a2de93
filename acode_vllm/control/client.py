"""The client's end of the control socket: every program that talks to an owner does it with this.

`acode_vllm.control.remote_service` makes a service of it that several threads use. A command that has one question asks
it here, in JSON data, and loads neither threads nor values.
"""

from __future__ import annotations

import json
import math
import os
import select
import time
from collections import deque

from acode_vllm.control.greeting import MAX_LINE, PROTOCOL, Hello
from acode_vllm.control.socket import connect, peer_of
from acode_vllm.io.line_buffer import LineBuffer, LineTooLongError
from acode_vllm.io.waits import wait_ready

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from acode_vllm.io.waits import Wakeup

_READ_BYTES = 64 * 1024


class ConnectionLostError(ConnectionError):
    """The owner has ended, hung up, or does not read: there is no connection any more."""


class StrangeOwnerError(ValueError):
    """The process at the other end is no owner of ours, or refuses us.

    Attributes:
        pid: Its PID.
        line: What it said instead of a greeting.
    """

    def __init__(self, why: str, pid: int, line: bytes = b"") -> None:
        super().__init__(why)
        self.pid, self.line = pid, line


FAILURES = (OSError, ValueError, LookupError, TypeError, RecursionError)
"""What a conversation in JSON data raises where the owner cannot be asked, or no longer."""


class ControlClient:
    """A connection to the owner that has greeted. One thread sends and one thread receives.

    The end of the owner is noticed by its socket and by its PID: a process that it forked may hold the socket open.

    Attributes:
        hello: What the owner said of itself.
        pid: Its PID as this process sees it; its own word if it lives in another PID namespace.
        near: Whether it lives in this PID namespace.
    """

    def __init__(self, connection: socket.socket) -> None:
        """Use `reach`."""
        self._socket = connection
        self._buffer = LineBuffer(MAX_LINE)
        self._lines: deque[bytes] = deque()
        self._wakeup: Wakeup | None = None
        self._asked = 0
        self._hung_up = False
        self.pid, self._user = peer_of(connection)
        self._owner = _open_pidfd(self.pid)
        self.hello: Hello
        self.near: bool

    @classmethod
    def reach(
        cls, path: str | Path, timeout: float, wakeup: Callable[[], Wakeup] | None = None
    ) -> ControlClient | None:
        """Connect and wait for the owner's greeting; None if there is no owner.

        Args:
            path: Of the socket.
            timeout: Seconds that the owner has to greet.
            wakeup: Makes what ends a wait of another thread at `hang_up`.

        Raises:
            TimeoutError: There is an owner, and it says nothing: it hangs.
            StrangeOwnerError: It is another user's, refused us, or cannot be understood.
            OSError: The socket cannot be used.
        """
        connection = connect(path)
        if connection is None:
            return None
        client = cls(connection)
        try:
            if wakeup is not None:
                client._wakeup = wakeup()
            client._await_hello(time.monotonic() + timeout)
        except ConnectionLostError:
            client.close()
            return None
        except BaseException:
            client.close()
            raise
        return client

    def send(self, line: bytes, timeout: float) -> None:
        """Send a line. One thread at a time.

        Raises:
            ConnectionLostError: It could not be sent, not all of it, or not in time.
        """
        try:
            self._send(line, time.monotonic() + timeout)
        except BaseException:
            self.hang_up()  # part of a line may have been sent: nothing that followed would be understood
            raise

    def receive(self, deadline: float = math.inf) -> bytes:
        """Wait for a line. One thread.

        Raises:
            ConnectionLostError: The owner is gone, or `hang_up` was called.
            TimeoutError: Monotonic time ``deadline`` came first.
        """
        while (line := self._next_line()) is None:
            if self._read():
                continue
            ready = self._wait(self._socket.fileno(), select.POLLIN, deadline)
            if self._owner is not None and self._owner in ready and self._socket.fileno() not in ready:
                raise ConnectionLostError("the owner has ended")
        return line

    def ask(self, what: str, details: dict[str, Any], deadline: float) -> dict[str, Any] | None:
        """Put a request and wait for its answer. For a client that one thread uses.

        Returns:
            The value in the answer; None if the answer is a problem.

        Raises:
            OSError: The owner is gone, or the deadline came first (`TimeoutError`).
            ValueError, LookupError, TypeError, RecursionError: The answer cannot be understood, or the request is too
                long.
        """
        self._asked += 1
        request = {"v": PROTOCOL, "id": self._asked, "do": what, "with": details}
        line = json.dumps(request, separators=(",", ":")).encode("ascii") + b"\n"
        if len(line) > MAX_LINE:
            raise ValueError("too long to be sent")
        self.send(line, max(0.0, deadline - time.monotonic()))
        while (answer := json.loads(self.receive(deadline))).get("id") != self._asked:
            pass
        value = answer["result"]["value"] if "problem" not in answer else None
        if value is not None and not isinstance(value, dict):
            raise ValueError("no answer of an owner")
        return value

    def hang_up(self) -> None:
        """Have `receive` raise, now and from now on. Any thread, if there is a wakeup."""
        self._hung_up = True
        if self._wakeup is not None:
            self._wakeup.wake()

    def close(self) -> None:
        """Give the descriptors back, which abandons what was not answered. While no other thread sends or receives."""
        self.hang_up()
        self._socket.close()
        if self._wakeup is not None:
            self._wakeup.close()
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None

    def _await_hello(self, deadline: float) -> None:
        if self._user != os.getuid():
            raise StrangeOwnerError("it belongs to another user", self.pid)
        line = self.receive(deadline)
        try:
            self.hello = Hello.of(json.loads(line))
        except (ValueError, AttributeError, RecursionError):
            raise StrangeOwnerError("it did not greet", self.pid, line) from None
        self.near = self.pid == self.hello.pid
        self.pid = self.pid or self.hello.pid

    def _next_line(self) -> bytes | None:
        if self._hung_up:
            raise ConnectionLostError("hung up")
        return self._lines.popleft() if self._lines else None

    def _read(self) -> bool:
        """Take what has arrived; whether there was anything."""
        try:
            data = self._socket.recv(_READ_BYTES)
            self._lines += self._buffer.feed(data)
        except BlockingIOError:
            return False
        except (OSError, LineTooLongError) as error:
            raise ConnectionLostError(str(error)) from error
        if not data:
            raise ConnectionLostError("the owner has hung up")
        return True

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
        waited_for = {fd: events}
        if self._wakeup is not None:
            waited_for[self._wakeup.fileno()] = select.POLLIN
        if self._owner is not None and events & select.POLLIN:
            waited_for[self._owner] = select.POLLIN
        ready = wait_ready(waited_for, deadline)
        if not ready:
            raise TimeoutError
        return ready


def ask_owner(control: str, patience: float) -> tuple[Hello, dict[str, Any]] | None:
    """The owner's greeting and the status, with a check and a sample of the GPUs that are not older than 5 s.

    Args:
        control: Path of its socket.
        patience: Seconds that it may take.

    Returns:
        None if it cannot be had.
    """
    deadline = time.monotonic() + patience
    try:
        owner = ControlClient.reach(control, patience)
        if owner is None:
            return None
        try:
            alike = owner.near and owner.hello.protocol == PROTOCOL
            status = owner.ask("refresh", {}, deadline) if alike else None
        finally:
            owner.close()
    except FAILURES:
        return None
    return (owner.hello, status) if status is not None else None


def _open_pidfd(pid: int) -> int | None:
    opener = getattr(os, "pidfd_open", None)  # not in every build of Python
    try:
        return opener(pid) if opener is not None and pid > 0 else None
    except OSError:
        return None
