"""The WarmWorker: keeps the fork server of a service, and has servers forked of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from acode_vllm.supervisor import ExitReason, Timer, Worker
from acode_vllm.vocabulary.errors import VllmServiceError
from acode_vllm.workers.messages.warm_messages import (
    CancelFork,
    CoolDown,
    ForkDelayed,
    Forked,
    ForkUseless,
    ForkVllm,
    NotForked,
    ReapForked,
)
from acode_vllm.workers.warm.fork_client import ForkFailedError, ForkServer
from acode_vllm.workers.warm.fork_plan import ForkKey, key_of

IMPORT_SECONDS = 180.0
"""How long vLLM's modules may take to be imported, 10 s mostly; a plain start imports them three times."""
NEEDED_BYTES = 1536 * 1024 * 1024
"""Memory that must be available before a fork server is started: what it takes, and room to start beside it."""

logger = logging.getLogger(__name__)
Make = Callable[[ForkKey, Path], ForkServer]


@dataclass(frozen=True)
class _Said:
    """The fork server number ``number`` said something, or has ended."""

    number: int


@dataclass(frozen=True)
class _Overdue:
    """The fork server number ``number`` has had its time to import."""

    number: int


class WarmWorker(Worker):
    """Starts a fork server when the first start wants one, and keeps it until it is told to cool down.

    It is never the reason why a start fails: whatever goes wrong here is answered with `NotForked`, and vLLM is started
    plainly. A fork server that failed with a key is not tried again with it.

    It is told `ForkVllm`, `CancelFork`, `ForkUseless`, `ReapForked` and `CoolDown` (casts).
    """

    def __init__(
        self, log_path: Path, make: Make = ForkServer, available_bytes: Callable[[], int | None] = lambda: None
    ) -> None:
        """Start nothing yet.

        Args:
            log_path: Where the fork server's own output goes.
            make: Starts a fork server.
            available_bytes: Memory that could be had now; None where nobody knows.
        """
        self._log_path = log_path
        self._make = make
        self._available_bytes = available_bytes
        self._server: ForkServer | None = None
        self._number = 0
        self._asked: ForkVllm | None = None
        self._overdue: Timer | None = None
        self._unfit: dict[ForkKey, str] = {}

    def handle_cast(self, message: object) -> None:
        """`ForkVllm`, `CancelFork`, `ForkUseless`, `ReapForked`, `CoolDown`."""
        match message:
            case ForkVllm():
                self._begin(message)
            case CancelFork():
                self._refuse("the start was given up")
            case ForkUseless(why):
                if self._server is not None:
                    self._unfit[self._server.key] = why
                    self._end()
            case ReapForked():
                if self._server is not None:
                    self._server.reap()
            case CoolDown():
                self._refuse("the service was stopped")
                self._end()
            case _:
                super().handle_cast(message)

    def handle_info(self, message: object) -> None:
        """Word of the fork server, or its time is over."""
        match message:
            case _Said(number) if number == self._number and self._server is not None:
                self._hear(self._server)
            case _Overdue(number) if number == self._number and self._server is not None and not self._server.ready:
                self._give_up(self._server, f"vLLM was not imported within {IMPORT_SECONDS:.0f} s")

    def terminate(self, reason: ExitReason) -> None:
        """The fork server ends with its owner; what was forked lives on."""
        self._refuse("the program that owns the service ends")
        self._end()

    # One request

    def _begin(self, asked: ForkVllm) -> None:
        self._refuse("another start was asked for")
        self._asked = asked
        argv = asked.plan.fork_argv
        if argv is None:
            self._refuse("the command is not plainly vLLM's")
            return
        key = key_of(argv, asked.plan)
        if (why := self._unfit.get(key)) is not None:
            self._refuse(why)
            return
        if self._server is not None and self._server.key != key:
            logger.info("vLLM's environment or packages have changed: another fork server is started")
            self._end()
        if self._server is not None and self._server.ready:
            self._fork(self._server)
            return
        asked.answer(ForkDelayed())
        if self._server is None:
            self._start(key)

    def _start(self, key: ForkKey) -> None:
        available = self._available_bytes()
        if available is not None and available < NEEDED_BYTES:
            self._refuse(f"only {available / 1e9:.1f} GB of memory are available")
            return
        try:
            server = self._make(key, self._log_path)
        except OSError as error:
            self._refuse(f"the fork server could not be started: {error.strerror or error}")
            return
        self._server = server
        self._number += 1
        number, ref = self._number, self.ref
        self.start_helper(lambda: server.listen(lambda: ref.send_info(_Said(number), reserved=True)), "fork-server")
        self.start_helper(server.end_when_stopped, "fork-server-stops")
        self._overdue = self.send_after(IMPORT_SECONDS, _Overdue(number))

    def _hear(self, server: ForkServer) -> None:
        while (packet := server.said()) is not None:
            match packet.get("say"):
                case "ready":
                    server.ready = True
                    logger.info("vLLM was imported in %.1f s", packet["seconds"])
                    if self._asked is not None:
                        self._fork(server)
                case "unfit":
                    self._give_up(server, packet["why"])
                    return
                case None:
                    self._give_up(server, "the fork server has ended")
                    return

    def _fork(self, server: ForkServer) -> None:
        asked, self._asked = self._asked, None
        assert asked is not None
        assert asked.plan.fork_argv is not None
        try:
            identity, begin = server.fork(asked.plan.fork_argv, asked.plan, asked.mark)
        except (ForkFailedError, VllmServiceError) as error:
            self._asked = asked
            self._give_up(server, str(error))
            return
        asked.answer(Forked(identity, begin))

    def _give_up(self, server: ForkServer, why: str) -> None:
        """End it; not again with this key where it never came to be of use."""
        was_ready = server.ready
        last = self._end()
        why = f"{why}: {last}" if last else why
        logger.warning("no warm start: %s", why)
        if not was_ready:
            self._unfit[server.key] = why
        self._refuse(why)

    def _refuse(self, why: str) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.answer(NotForked(why))

    def _end(self) -> str:
        server, self._server = self._server, None
        if self._overdue is not None:
            self._overdue.cancel()
        return server.end() if server is not None else ""
