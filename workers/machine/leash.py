"""The leash: with ``stop_on_exit``, vLLM ends when its owner ends, even by SIGKILL.

This is the owner's side of `acode_vllm.workers.machine.guard`. A leash is bound to the process that makes it, not to
its thread.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.vocabulary.server_process import ProcessIdentity
from acode_vllm.workers.machine.process_identity import identify

LONGEST_SECONDS = 4.0
"""The longest time from SIGTERM to SIGKILL once the owner has died: nobody is left to see what takes so long."""

MOST_GUARDS = 3
"""How many guards are started, one after the other, if they end too early."""

_END_SECONDS = 2.0

logger = logging.getLogger(__name__)


class Leash:
    """A guard process. For one thread. What it holds ends when this process ends, however it ends."""

    def __init__(self, options: VllmLifecycleOptions) -> None:
        """Start the guard. This takes about 10 ms; the guard is ready about 100 ms later.

        Raises:
            OSError: The process could not be started.
        """
        self._process = _start_guard()
        assert self._process.stdin is not None
        self._orders = self._process.stdin
        self.identity = _require(identify(self._process.pid))
        """The guard's process."""
        owner = _require(identify(os.getpid()))
        timeout = min(options.stop_timeout_seconds, LONGEST_SECONDS)
        self._send(
            json.dumps(
                {"pid": owner.pid, "start_ticks": owner.start_ticks, "boot_id": owner.boot_id, "timeout": timeout}
            )
        )

    def hold(self, mark: str) -> None:
        """From now on, processes with this mark end with us. Call it before they are spawned."""
        self._send(f"+{mark}")

    def let_go(self, mark: str) -> None:
        """Processes with this mark may live on."""
        self._send(f"-{mark}")

    def release(self) -> None:
        """End the guard, so that nothing is held any more."""
        self._send("done")
        self._orders.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _send(self, order: str) -> None:
        # Past Python's buffer: a buffered order is lost when we die. The watch of the guard notices its death.
        with suppress(BrokenPipeError):
            os.write(self._orders.fileno(), f"{order}\n".encode("ascii"))


class Tether:
    """A leash, if the options want one. It is replaced a few times if its guard ends too early."""

    def __init__(self, options: VllmLifecycleOptions, make: Callable[[VllmLifecycleOptions], Leash] = Leash) -> None:
        """Start nothing yet."""
        self._options = options
        self._make = make
        self._leash: Leash | None = None
        self._left = MOST_GUARDS if options.stop_on_exit else 0

    @property
    def guard(self) -> ProcessIdentity | None:
        """The guard's process, to be watched; None without a guard."""
        return None if self._leash is None else self._leash.identity

    def tie(self, mark: str) -> ProcessIdentity | None:
        """Replace the guard by a new one that holds processes with the mark; return it."""
        if self._leash is not None:
            logger.warning("the guard of vLLM, PID %d, has ended before its time", self._leash.identity.pid)
        self.release()
        if not self._left:
            return None
        self._left -= 1
        try:
            self._leash = self._make(self._options)
        except OSError as error:
            logger.warning("vLLM would outlive a sudden death of this program: no guard could be started: %s", error)
            return None
        self._leash.hold(mark)
        return self._leash.identity

    def release(self) -> None:
        """Hold nothing any more."""
        if self._leash is not None:
            self._leash.release()
            self._leash = None


def _start_guard() -> subprocess.Popen[bytes]:
    # The guard inherits the mask of this thread, so these signals never reach it: a SIGTERM to a whole session or
    # service is meant for the owner, and the guard must outlive the owner.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
    try:
        return subprocess.Popen(
            (sys.executable, "-m", "acode_vllm.workers.machine.guard"),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            env={
                # It imports from the same places as we do, but from no relative path.
                "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if os.path.isabs(entry)),
                "PYTHONSAFEPATH": "1",
                "PATH": os.defpath,
            },
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _require(identity: ProcessIdentity | None) -> ProcessIdentity:
    assert identity is not None, "neither this process nor a child that nobody has waited for can be gone"
    return identity
