"""The worker that keeps the logs of a service within their limits."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Sequence

from acode_vllm.io.waits import Interrupt, wait_ready
from acode_vllm.supervisor import ExitReason, Worker
from acode_vllm.workers.log.rotation import Rotation
from acode_vllm.workers.machine.folder_watch import LOOK_SECONDS, FolderWatch
from acode_vllm.workers.messages.log_messages import LogNotKept
from acode_vllm.workers.messages.reports import Report

PAUSE_SECONDS = 0.05
"""Between two looks: a log grows by what is written in that time, 50 MB at a gigabyte a second."""
REPEAT_SECONDS = 600.0
"""The same trouble is told so often at most."""
END_SECONDS = 0.5
"""A copy is given up between two steps of some milliseconds."""


class LogWorker(Worker):
    """Rotates logs when they have grown too large. Permanent.

    A thread of its own waits for the kernel's word that one of the files has changed: where nothing is written, it
    never wakes.

    Args:
        report: Where `LogNotKept` goes.
        rotations: Makes the rotations, all in one folder, given what says whether to give up.
    """

    def __init__(self, report: Report, rotations: Callable[[Callable[[], bool]], Sequence[Rotation]]) -> None:
        self._report = report
        self._rotations = rotations
        self._interrupt = Interrupt()
        self._thread: threading.Thread | None = None

    def init(self) -> None:
        """Begin to watch."""
        rotations = self._rotations(lambda: self._interrupt.pressed)
        watch = FolderWatch(rotations[0].path.parent)
        self._thread = self.start_helper(lambda: self._run(rotations, watch), "logs")

    def handle_info(self, message: object) -> None:
        """The thread has ended by an error, which is a bug of ours."""
        if isinstance(message, Exception):
            raise message

    def interrupt(self) -> None:
        """Give up a copy that takes long."""
        self._interrupt.press()

    def terminate(self, reason: ExitReason) -> None:
        """End the thread."""
        self._interrupt.press()
        if self._thread is not None:
            self._thread.join(END_SECONDS)

    def _run(self, rotations: Sequence[Rotation], watch: FolderWatch) -> None:
        with watch:
            try:
                self._keep(rotations, watch)
            except Exception as error:  # noqa: BLE001 - it becomes the crash of the worker
                self.ref.send_info(error, reserved=True)
            finally:
                self._interrupt.close()

    def _keep(self, rotations: Sequence[Rotation], watch: FolderWatch) -> None:
        stop = {self._interrupt.fileno(): select.POLLIN}
        told: dict[str, float] = {}
        changed: set[str] | None = None
        while not self._interrupt.pressed:
            for rotation in rotations:
                why = _look(rotation) if changed is None or rotation.path.name in changed else None
                if why is not None and time.monotonic() - told.get(why, -REPEAT_SECONDS) >= REPEAT_SECONDS:
                    told[why] = time.monotonic()
                    self._report(LogNotKept(why))
            wait_ready(stop, time.monotonic() + PAUSE_SECONDS)
            if (folder := watch.fileno()) is None:
                wait_ready(stop, time.monotonic() + LOOK_SECONDS)
            else:
                wait_ready({**stop, folder: select.POLLIN})
            changed = watch.take()


def _look(rotation: Rotation) -> str | None:
    try:
        return rotation.look()
    except OSError as error:
        return f"{rotation.path} cannot be rotated, and grows: {error.strerror or error}"
