"""The worker that checks a model before a start and watches it load (FR-021 to FR-025, NFR-016)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from acode_vllm.supervisor import NO_REPLY, ReplyTo, Worker, WorkerRef
from acode_vllm.vocabulary.errors import Problem
from acode_vllm.workers.messages.health_messages import CheckFailed
from acode_vllm.workers.messages.model_messages import (
    FollowLoad,
    LoadStep,
    LoadTimedOut,
    ModelPrepared,
    PreparedModel,
    PrepareModel,
    ServerFound,
    StopFollowing,
)
from acode_vllm.workers.messages.reports import Report
from acode_vllm.workers.model.hub_client import ask_hub
from acode_vllm.workers.model.load_watch import LoadWatch
from acode_vllm.workers.model.model_check import AskHub, prepare_model

LOOK_SECONDS = 0.25

Check = Callable[[PrepareModel, AskHub, Callable[[str], WorkerRef | None]], PreparedModel | Problem | ServerFound]
"""Checks what a start needs, on a helper thread; gets the hub, and a lookup of the tree's workers."""


def check_model(
    message: PrepareModel, ask: AskHub, whereis: Callable[[str], WorkerRef | None]
) -> PreparedModel | Problem:
    """Check only the model."""
    return prepare_model(message.model, message.options, message.env, ask)


@dataclass(frozen=True)
class _Look:
    """The timer of the load that is being followed."""

    number: int


@dataclass(frozen=True)
class _Prepared:
    """The result of a helper thread."""

    message: PrepareModel
    reply_to: ReplyTo | None
    result: PreparedModel | Problem | ServerFound | Exception


class ModelLoader(Worker):
    """Prepares models and follows loads. Permanent.

    A helper thread asks the hub and the disk, so the worker hears a stop at once. A helper that is still waiting for
    the hub ends at its own deadline, and its result is dropped. A timer runs only while a load is followed.

    Args:
        report: Receives `ModelPrepared`, `LoadStep` and `LoadTimedOut`.
        ask: Asks the hub; blocks for at most a few seconds.
        look_seconds: Time between two looks at a load.
        check: The checks before a start.
    """

    def __init__(
        self, report: Report, ask: AskHub = ask_hub, look_seconds: float = LOOK_SECONDS, check: Check = check_model
    ) -> None:
        self._report = report
        self._ask = ask
        self._check = check
        self._look_seconds = look_seconds
        self._following: FollowLoad | None = None
        self._watch: LoadWatch | None = None
        self._number = 0

    def handle_call(self, message: object, reply_to: ReplyTo) -> object:
        """Answer `PrepareModel` with what was found."""
        if not isinstance(message, PrepareModel):
            return super().handle_call(message, reply_to)
        self._prepare(message, reply_to)
        return NO_REPLY

    def handle_cast(self, message: object) -> None:
        """Handle `PrepareModel`, `FollowLoad`, `CheckFailed` and `StopFollowing`."""
        match message:
            case PrepareModel():
                self._prepare(message, None)
            case FollowLoad():
                self._follow(message)
            case CheckFailed(server, report):
                if self._watch is not None and self._following is not None and self._following.server == server:
                    self._watch.check_failed(report)
            case StopFollowing():
                self._following = self._watch = None
            case _:
                super().handle_cast(message)

    def handle_info(self, message: object) -> None:
        """Handle the timer and the helper threads' results."""
        match message:
            case _Look(number) if number == self._number and self._watch is not None:
                self._look(self._watch)
            case _Prepared():
                self._prepared(message)

    def _prepare(self, message: PrepareModel, reply_to: ReplyTo | None) -> None:
        ref, ask, check, whereis = self.ref, self._ask, self._check, self.supervisor.whereis

        def look() -> None:
            result: PreparedModel | Problem | ServerFound | Exception
            try:
                result = check(message, ask, whereis)
            except Exception as defect:  # noqa: BLE001 - the worker's thread raises it again
                result = defect
            ref.send_info(_Prepared(message, reply_to, result), reserved=True)

        self.start_helper(look, "model-check")

    def _prepared(self, prepared: _Prepared) -> None:
        result = prepared.result
        answer = result
        if isinstance(answer, Exception):
            # Tell the callers, then let it crash.
            text = f"Looking at the model {prepared.message.model} failed: {type(answer).__name__}"
            answer = Problem("ACODE-VLM-031", text)
        if prepared.reply_to is not None:
            prepared.reply_to.reply(answer)
        else:
            self._report(ModelPrepared(prepared.message.attempt, answer))
        if isinstance(result, Exception):
            raise result

    def _follow(self, message: FollowLoad) -> None:
        self._following = message
        self._watch = LoadWatch(message, self.clock.monotonic())
        self._number += 1
        self._look(self._watch)

    def _look(self, watch: LoadWatch) -> None:
        assert self._following is not None
        server = self._following.server
        now = self.clock.monotonic()
        for step in watch.look(now):
            self._report(LoadStep(server, step))
        problem = watch.overdue(now)
        if problem is not None:
            self._following = self._watch = None
            self._report(LoadTimedOut(server, problem))
            return
        self.send_after(self._look_seconds, _Look(self._number))
