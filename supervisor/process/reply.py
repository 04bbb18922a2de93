"""A call's reply: exactly one, from the thread that is first."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Any, Final

from .arrival import Arrival
from .clock import Clock, wait_for
from .errors import CallTimeout
from .fence import own_fence
from .forks import birth
from .reasons import is_exception
from .shown import show

_log = logging.getLogger("acode_vllm.supervisor")


class NoReply(Enum):
    """The type of :data:`NO_REPLY`."""

    NO_REPLY = "no_reply"


NO_REPLY: Final = NoReply.NO_REPLY
"""Returned by ``handle_call``: the reply follows, through :class:`ReplyTo`."""


class ReplyTo:
    """The caller that waits for a reply.

    Keep it to answer later, from any thread. Only the first answer reaches the caller. When a
    worker ends, its unanswered calls fail with ``WorkerDown``.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._birth = birth()
        self._answered = Arrival()
        self._lock = self._answered.lock
        self._settled = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._on_settled: Callable[[ReplyTo], None] | None = None

    def reply(self, value: object) -> bool:
        """Answer with a value. Any thread; never blocks.

        Returns:
            Whether this was the answer. False if there was one before, if the caller no
            longer waits, if the thread's process was given up on, or in a forked process.
        """
        return self._answer(value, None)

    def fail(self, error: BaseException) -> bool:
        """Answer with an exception, which the call then raises; see :meth:`reply`.

        Raises:
            TypeError: ``error`` is not an exception.
        """
        if not is_exception(error):
            raise TypeError(f"not an exception: {show(error)}")
        return self._answer(None, error)

    def settle(self, value: object, error: BaseException | None) -> bool:
        """Answer on behalf of the package itself, past any fence; see :meth:`reply`."""
        with self._lock:
            if self._settled:
                return False
            self._value, self._error = value, error
            self._settled = True
            self._answered.notify()
        if self._on_settled is not None:
            try:
                self._on_settled(self)
            except BaseException:  # noqa: BLE001 - the asker's bug must not hurt the one that answers
                with suppress(BaseException):
                    _log.exception("when_answered failed")
        return True

    def _answer(self, value: object, error: BaseException | None) -> bool:
        if self._birth is not birth():
            return False
        with own_fence() as allowed:
            return allowed and self.settle(value, error)

    def when_settled(self, callback: Callable[[ReplyTo], None]) -> None:
        """Set what is called once, on the thread that answers; before the request is sent."""
        self._on_settled = callback

    def wait(self, deadline: float | None, name: str) -> Any:
        """Wait on the caller's thread for the answer.

        Raises:
            CallTimeout: The deadline came first; later answers are refused.
            BaseException: The answer is an exception.
        """
        try:
            wait_for(self._clock, self._answered, lambda: self._settled, deadline)
        finally:
            # Also if an interrupt (Ctrl-C) ended the wait: nobody reads the answer now.
            self.settle(None, CallTimeout(f"{name} did not reply in time"))
        return self.result()

    def result(self) -> Any:
        """Return the answer. Only once it is settled.

        Raises:
            BaseException: The answer is an exception.
        """
        if self._error is not None:
            raise self._error
        return self._value
