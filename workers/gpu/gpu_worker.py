"""The worker that samples the GPUs (FR-006, NFR-008, NFR-015, AC-031)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Protocol

from acode_vllm.supervisor import NO_REPLY, CallError, ExitReason, ReplyTo, Timer, Worker, WorkerRef, call
from acode_vllm.vocabulary.gpus import GpuSample
from acode_vllm.workers.gpu.sampler import machine_sampler
from acode_vllm.workers.gpu.source import CANNOT_LOOK, NO_ANSWER
from acode_vllm.workers.messages.gpu_messages import GpuReport, SampleGpus
from acode_vllm.workers.messages.reports import Report

ANSWER_SECONDS = 5.0
"""How long a driver may take for one sample before it counts as hung."""
_JOIN_SECONDS = 0.5


class Sampler(Protocol):
    """Takes samples; `GpuSampler` implements it."""

    def sample(self) -> GpuSample:
        """Take one sample; may block inside a driver."""

    def close(self) -> None:
        """Release the drivers without waiting. Any thread."""


@dataclass(frozen=True)
class _SampleDue:
    """The interval has passed."""


@dataclass(frozen=True)
class _Overdue:
    """The driver's time for sample ``number`` is up."""

    number: int


@dataclass(frozen=True)
class _Taken:
    """Sample ``number`` is done: a sample, or what the sampler raised."""

    outcome: GpuSample | Exception


class GpuWorker(Worker):
    """Samples the devices at an interval and on demand. Permanent.

    A driver can hang in the kernel, so a helper thread takes the samples, one at a time. After ``answer_seconds`` the
    callers get an error, and no other sample begins until the driver comes back. Requests that arrive during a sample
    share it. On a machine without devices there is no timer: the worker sleeps until it is asked.

    Args:
        report: Receives the samples that nobody called for.
        interval_seconds: ``gpu.sample_interval_seconds``; 0 means samples on demand only.
        sampler: Makes a new sampler for each incarnation, on the worker's thread.
        answer_seconds: The driver's time for one sample.
        wall: Wall-clock time for the sample that replaces one of a hung driver.
    """

    def __init__(
        self,
        report: Report,
        interval_seconds: float,
        sampler: Callable[[], Sampler] = machine_sampler,
        answer_seconds: float = ANSWER_SECONDS,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._report = report
        self._interval = interval_seconds
        self._make_sampler = sampler
        self._answer_seconds = answer_seconds
        self._wall = wall
        self._number = 0
        self._deadline: Timer | None = None
        self._next: Timer | None = None
        self._under_way = False
        self._wanted: SimpleQueue[bool] = SimpleQueue()
        self._helper: Thread | None = None
        self._seen = False
        self._for_report = False
        self._askers: list[ReplyTo] = []

    def init(self) -> None:
        """Return at once; the first sample follows as a message."""
        self._sampler = self._make_sampler()
        if self._interval > 0:
            self._next = self.send_after(0, _SampleDue())

    def handle_call(self, message: object, reply_to: ReplyTo) -> object:
        """Answer `SampleGpus` with a `GpuSample`, at the latest when the driver's time is up."""
        if not isinstance(message, SampleGpus):
            return super().handle_call(message, reply_to)
        if self._under_way and self._deadline is None:
            return self._no_answer()
        self._askers.append(reply_to)
        self._begin()
        return NO_REPLY

    def handle_cast(self, message: object) -> None:
        """Take a sample for `SampleGpus`, and report it like those of the interval."""
        if not isinstance(message, SampleGpus):
            super().handle_cast(message)
        elif self._under_way and self._deadline is None:
            self._tell(self._no_answer())
        else:
            self._for_report = True
            self._begin()

    def handle_info(self, message: object) -> None:
        """Handle the interval, the deadline and the helper thread's results."""
        match message:
            case _SampleDue():
                self._next = None
                self._for_report = True
                self._begin()
            case _Overdue(number) if number == self._number and self._deadline is not None:
                self._deadline = None
                self._give(self._no_answer())
            case _Taken(GpuSample() as sample):
                self._end(sample)
            case _Taken(Exception() as defect):
                raise defect

    def terminate(self, reason: ExitReason) -> None:
        """Release the drivers. A helper that is stuck in one releases it itself if it ever comes back."""
        self._sampler.close()
        if self._helper is not None:
            self._wanted.put(False)
            self._helper.join(_JOIN_SECONDS)

    def _begin(self) -> None:
        """Take a sample, unless one is being taken."""
        if self._under_way:
            return
        self._under_way = True
        self._number += 1
        self._deadline = self.send_after(self._answer_seconds, _Overdue(self._number))
        if self._helper is None:
            self._helper = self.start_helper(partial(_serve, self._wanted, self._sampler, self.ref), name="gpu-sample")
        self._wanted.put(True)

    def _end(self, sample: GpuSample) -> None:
        self._under_way = False
        self._seen = self._seen or bool(sample.devices)
        if self._interval > 0 and self._seen and self._next is None:
            self._next = self.send_after(self._interval, _SampleDue())
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
            self._give(sample)

    def _give(self, sample: GpuSample) -> None:
        askers, self._askers = self._askers, []
        for reply_to in askers:
            reply_to.reply(sample)
        if self._for_report:
            self._for_report = False
            self._tell(sample)

    def _tell(self, sample: GpuSample) -> None:
        self._report(GpuReport(sample, self.clock.monotonic()))

    def _no_answer(self) -> GpuSample:
        return GpuSample(self._wall(), (), "none", f"{NO_ANSWER} within {self._answer_seconds:g} s")


def _serve(wanted: SimpleQueue[bool], sampler: Sampler, ref: WorkerRef) -> None:
    """Take a sample whenever one is wanted, on the helper thread, and send the result."""
    while wanted.get():
        outcome: GpuSample | Exception
        try:
            outcome = sampler.sample()
        except Exception as defect:  # noqa: BLE001 - nothing is swallowed: the worker raises it and is restarted
            outcome = defect
        ref.send_info(_Taken(outcome), reserved=True)


"""The GpuWorker's id in its tree."""


def sample_by_worker(worker: WorkerRef | None) -> GpuSample:
    """The devices as a GpuWorker reads them, within a time limit; the sample's error says if it is not running."""
    try:
        if worker is not None:
            sample: GpuSample = call(worker, SampleGpus(), 2 * ANSWER_SECONDS)
            return sample
        why = "what reads it does not run"
    except CallError as error:
        why = f"{NO_ANSWER}, nor did what reads it ({type(error).__name__})"
    return GpuSample(time.time(), (), "none", f"{CANNOT_LOOK}: {why}")
