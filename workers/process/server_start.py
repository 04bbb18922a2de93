"""How a server comes to be: forked of a fork server where the plan allows it, else spawned."""

from __future__ import annotations

import os
import time

from acode_vllm.supervisor import MailboxFull, WorkerRef, cast
from acode_vllm.vocabulary.server_process import OomCount, ServerProcess, StartKind
from acode_vllm.workers.messages.process_messages import LaunchPlan
from acode_vllm.workers.messages.warm_messages import CancelFork, Forked, ForkUseless, ForkVllm, NotForked, ReapForked
from acode_vllm.workers.process.process_edges import ProcessEdges


class ServerStart:
    """The start of one `ProcessWorker`'s server, and of the next where a forked one was of no use. For one thread.

    Attributes:
        awaited: The mark of a server that the `WarmWorker` was asked for and has not answered; None for none.
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
        """Have a server forked, if the plan may be; ``asker`` then gets `Forked` or `NotForked`.

        Returns:
            The worker that was asked: should it end, there is no answer. None where nobody could be asked.
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
        """Want no server any more; the answer comes all the same."""
        self._tell(CancelFork())

    def forked(self, answer: Forked) -> ServerProcess:
        """The server that was asked for."""
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
            log_offset=answer.log_offset,
            started_at=time.time(),
            oom_count=self._kills,
            start=StartKind.FIRST_WARM if self.delayed else StartKind.WARM,
        )

    def spawn(self, mark: str) -> ServerProcess:
        """A server that is started plainly; blocks for some milliseconds. Raises as `spawn_server`."""
        self.awaited, self._forked = None, False
        return self._edges.spawn(self._plan, mark)

    def was_useless(self, server: ServerProcess) -> bool:
        """Whether a forked server ended without a word: then vLLM is to be started plainly, now and later."""
        try:
            silent = os.path.getsize(server.log_path) <= server.log_offset
        except OSError:
            silent = False
        return self._forked and silent

    def give_up_forking(self, why: str) -> None:
        """Have nothing forked any more of what the fork server has imported."""
        self._tell(ForkUseless(why))

    def reaped(self) -> None:
        """How the server ended has been read."""
        if self._forked:
            self._tell(ReapForked())

    def _tell(self, message: CancelFork | ForkUseless | ReapForked) -> None:
        if self._warm is not None:
            try:
                cast(self._warm, message)
            except MailboxFull:  # it is stuck, which its supervisor deals with
                return


NO_ANSWER = NotForked("the worker that keeps the fork server has ended")
