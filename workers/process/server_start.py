"""Starts a server: forks it from a fork server if the plan allows it, else spawns it."""

from __future__ import annotations

import time
from pathlib import Path

from acode_vllm.supervisor import MailboxFull, WorkerRef, cast
from acode_vllm.vocabulary.server_process import OomCount, ServerProcess, StartKind
from acode_vllm.workers.log.pieces import LogPieces
from acode_vllm.workers.messages.process_messages import LaunchPlan
from acode_vllm.workers.messages.warm_messages import CancelFork, Forked, ForkUseless, ForkVllm, NotForked, ReapForked
from acode_vllm.workers.process.process_edges import ProcessEdges


class ServerStart:
    """Starts one `ProcessWorker`'s server, and spawns it again if the forked one was useless. One thread only.

    Attributes:
        awaited: The mark of the server that the `WarmWorker` has yet to fork; None if no answer is due.
        delayed: Whether the `WarmWorker` has to import vLLM first.
    """

    def __init__(self, plan: LaunchPlan, edges: ProcessEdges) -> None:
        self._plan = plan
        self._edges = edges
        self._warm: WorkerRef | None = None
        self._forked = False
        self._kills: OomCount | None = None
        self.awaited: str | None = None
        self.delayed = False

    def ask(self, mark: str, asker: WorkerRef) -> WorkerRef | None:
        """Ask for a forked server, if the plan allows it; ``asker`` then gets `Forked` or `NotForked`.

        Returns:
            The worker that was asked: if it ends, there is no answer. None if nobody could be asked.
        """
        warm = self._edges.warm_worker() if self._plan.fork_argv is not None else None
        if warm is None:
            return None
        from acode_vllm.workers.diagnosis.oom_evidence import count_kills

        self._kills = count_kills()
        try:
            cast(warm, ForkVllm(self._plan, mark, lambda answer: asker.send_info(answer, reserved=True)))
        except MailboxFull:
            return None
        self._warm, self.awaited, self.delayed = warm, mark, False
        return warm

    def cancel(self) -> None:
        """Cancel the fork; the answer still comes."""
        self._tell(CancelFork())

    def forked(self, answer: Forked) -> ServerProcess:
        """The forked server that the answer names."""
        mark, self.awaited = self.awaited, None
        assert mark is not None
        assert self._plan.fork_argv is not None
        self._forked = True
        plan = self._plan
        return ServerProcess(
            identity=answer.identity,
            mark=mark,
            command=plan.fork_argv or plan.argv,
            model=plan.model,
            served_name=plan.served_name,
            port=plan.port,
            log_path=str(plan.log_path),
            log_offset=answer.log_begin.offset,
            started_at=time.time(),
            oom_count=self._kills,
            start=StartKind.FIRST_WARM if self.delayed else StartKind.WARM,
            log_copy=answer.log_begin.copy,
        )

    def spawn(self, mark: str) -> ServerProcess:
        """Spawn a server. Blocks for some milliseconds; raises as `spawn_server` does."""
        self.awaited, self._forked = None, False
        return self._edges.spawn(self._plan, mark)

    def was_useless(self, server: ServerProcess) -> bool:
        """Whether a forked server ended without output: then vLLM is spawned, now and later."""
        try:
            with LogPieces(Path(server.log_path), server.log_place) as log:
                silent = log.size <= log.begin
        except OSError:
            silent = False
        return self._forked and silent

    def give_up_forking(self, why: str) -> None:
        """Stop forking from what the fork server has imported."""
        self._tell(ForkUseless(why))

    def reaped(self) -> None:
        """The server's exit has been read."""
        if self._forked:
            self._tell(ReapForked())

    def _tell(self, message: CancelFork | ForkUseless | ReapForked) -> None:
        if self._warm is not None:
            try:
                cast(self._warm, message)
            except MailboxFull:  # stuck: its supervisor handles that
                return


NO_ANSWER = NotForked("the worker that keeps the fork server has ended")
