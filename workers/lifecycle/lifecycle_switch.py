"""A switch of the model: requests that are under way may finish, and what was served before is not forgotten.

Pure but for its own state; see `acode_vllm.workers.lifecycle.lifecycle`.
"""

from __future__ import annotations

from acode_vllm.vocabulary.events import WarningRaised
from acode_vllm.workers.lifecycle.lifecycle_state import LifecycleState, Phase
from acode_vllm.workers.messages.health_messages import Drain, Drained
from acode_vllm.workers.messages.lifecycle_messages import Effect, Emit, Tell, Wanted
from acode_vllm.workers.messages.worker_ids import HEALTH


class LifecycleSwitch(LifecycleState):
    """The steps from one model to another. Used by one thread."""

    def drained(self, message: Drained) -> list[Effect]:
        """The requests in hand have finished, or have had their time."""
        if self._phase is not Phase.DRAINING or message.server not in (None, self._status.server):
            return []
        another = next((w.wanted.model for w in self._waiters if w.wanted.model != self._status.model), None)
        if another is None:
            self._stay()
            return self._take()
        if message.left:
            text = f"{message.left} request(s) were cut off after {self._drain_seconds:g} s by the switch to {another}"
            self._effects.append(Emit(WarningRaised(self._wall(), text)))
        self._begin_stop(f"switching to {another}")
        return self._take()

    def _begin_switch(self, wanted: Wanted) -> None:
        """Let the requests in hand finish; those that come meanwhile wait, since nothing vouches for the server."""
        self._before = self._wanted if self._found is None else None
        self._drain_seconds = wanted.options.drain_timeout_seconds
        if self._found is not None or not self._drain_seconds:
            self._begin_stop(f"switching to {wanted.model}")
            return
        self._phase = Phase.DRAINING
        reason = (
            f"switching to {wanted.model} when running requests have finished, or {self._drain_seconds:g} s are over"
        )
        self._ledger.update(last_check=None, reason=reason)
        self._effects.append(Tell(HEALTH, Drain(self._drain_seconds)))

    def _wants_another(self) -> bool:
        return any(w.wanted.model != self._status.model for w in self._waiters)

    def _stay(self) -> None:
        """Nobody wants another model any more: the server that is there goes on, and is checked first."""
        self._phase = Phase.UP
        self._before = None
        self._ledger.update(reason=f"{self._status.model} is served on: nobody wants another model any more")
        self._watch_again()
