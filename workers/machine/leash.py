"""The leash: with ``stop_on_exit`` vLLM goes when its owner goes, SIGKILL included.

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
"""From SIGTERM to SIGKILL, at most, when the owner has died: nobody is left who could see what takes so long."""

MOST_GUARDS = 3
"""How many guards are started one after the other, should they end before their time."""

_END_SECONDS = 2.0

logger = logging.getLogger(__name__)


class Leash:
    """A guard process. For one thread; what is held goes when this process ends, however it ends."""

    def __init__(self, options: VllmLifecycleOptions) -> None:
        """Start the guard: some 10 ms here, while it takes about 100 ms more to come up by itself.

        Raises:
            OSError: No process could be made.
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
        """From now on whatever carries this mark goes with us. To be called before it is spawned."""
        self._send(f"+{mark}")

    def let_go(self, mark: str) -> None:
        """What carries this mark may live on."""
        self._send(f"-{mark}")

    def release(self) -> None:
        """End the guard; nothing is held any more."""
        self._send("done")
        self._orders.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _send(self, order: str) -> None:
        # Past Python's buffer: an order that is kept back is lost when we die. A guard that has died is noticed by
        # whoever watches it.
        with suppress(BrokenPipeError):
            os.write(self._orders.fileno(), f"{order}\n".encode("ascii"))


class Tether:
    """A leash for those options that want one, made anew a few times when its guard ends before its time."""

    def __init__(self, options: VllmLifecycleOptions, make: Callable[[VllmLifecycleOptions], Leash] = Leash) -> None:
        """Start nothing yet."""
        self._options = options
        self._make = make
        self._leash: Leash | None = None
        self._left = MOST_GUARDS if options.stop_on_exit else 0

    @property
    def guard(self) -> ProcessIdentity | None:
        """The guard's process, to be watched; None where there is none."""
        return None if self._leash is None else self._leash.identity

    def tie(self, mark: str) -> ProcessIdentity | None:
        """Hold what carries the mark by a new guard, and let the one before go; return the guard."""
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
        """Let go of whatever is held."""
        if self._leash is not None:
            self._leash.release()
            self._leash = None


def _start_guard() -> subprocess.Popen[bytes]:
    # The guard inherits the mask of this thread, so that it is deaf from its first moment on: whoever ends a whole
    # session or service by SIGTERM means the owner, and the guard has to see that one's end.
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
                # It imports from where we do, and from nothing relative.
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
