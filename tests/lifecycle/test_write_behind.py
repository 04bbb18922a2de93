"""When what happened is written down."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from acode_vllm.supervisor import Timer
from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.events import Event, WarningRaised
from acode_vllm.vocabulary.server_process import ProcessIdentity, ServerProcess
from acode_vllm.vocabulary.status import ServiceStatus, unknown_status
from acode_vllm.workers.lifecycle.write_behind import FIGURES_SECONDS, TOLD_SECONDS, WriteBehind, patience

STATUS = unknown_status(None)
SERVER = ServerProcess(ProcessIdentity(42, 1, "boot"), "mark", ("vllm",), "a/b", "a/b", 8000, "log", 0, 9.0)


class Disk:
    """Records, and a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []
        self.written: list[ServiceStatus | Event] = []
        self.problem: Problem | None = None
        self.raised: list[Problem] = []
        self.behind = WriteBehind(self, self.raised.append, self._wake, lambda: self.now)

    def write(self, status: ServiceStatus) -> Problem | None:
        self.written.append(status)
        return self.problem

    def note(self, events: list[Event]) -> Problem | None:
        self.written += events
        return None

    def choose(self, mark: str) -> Problem | None:
        raise NotImplementedError

    def found(self) -> tuple[ServiceStatus | None, bool, tuple[Problem, ...]]:
        raise NotImplementedError

    def _wake(self, seconds: float) -> Timer:
        self.timers.append(Timer(self.now + seconds, None))
        return self.timers[-1]

    @property
    def due(self) -> list[float]:
        return [timer.deadline for timer in self.timers if timer.active]


def named(reason: str) -> ServiceStatus:
    return replace(STATUS, reason=reason)


@pytest.mark.parametrize(
    ("before", "status", "figures_alone", "somebody_answered", "seconds_since", "seconds"),
    [
        (None, STATUS, False, False, math.inf, 0.0),  # the first
        (STATUS, named("else"), False, True, 0.0, 0.0),  # whoever is answered may rely on it
        (STATUS, replace(STATUS, server=SERVER), False, False, 0.0, 0.0),  # the next owner must find the process
        (STATUS, named("else"), False, False, 0.0, TOLD_SECONDS),
        (STATUS, replace(STATUS, at=5.0), True, True, FIGURES_SECONDS - 1, math.inf),
        (STATUS, replace(STATUS, at=5.0), True, True, FIGURES_SECONDS, TOLD_SECONDS),
        (STATUS, replace(STATUS, at=5.0), True, False, FIGURES_SECONDS - 1, math.inf),
        (STATUS, replace(STATUS, at=5.0), True, False, FIGURES_SECONDS, 0.0),  # nobody waits: no second wake-up for it
    ],
)
def test_how_long_it_may_wait(
    before: ServiceStatus | None,
    status: ServiceStatus,
    figures_alone: bool,
    somebody_answered: bool,
    seconds_since: float,
    seconds: float,
) -> None:
    assert seconds == patience(
        before,
        status,
        figures_alone=figures_alone,
        somebody_answered=somebody_answered,
        seconds_since=seconds_since,
        check_interval=300.0,
    )


def test_who_has_the_server_checked_often_has_it_recorded_often() -> None:
    assert [
        patience(
            STATUS,
            replace(STATUS, at=5.0),
            figures_alone=True,
            somebody_answered=False,
            seconds_since=seconds_since,
            check_interval=5.0,
        )
        for seconds_since in (24.0, 25.0)
    ] == [math.inf, 0.0]


def test_of_what_waits_the_last_status_and_every_event_are_written() -> None:
    disk, events = Disk(), [WarningRaised(float(n), "") for n in range(2)]
    disk.behind.owe(events[:1], named("one"), 0.01)
    disk.behind.owe(events[1:], named("two"), 0.01)
    assert disk.written == []
    disk.behind.write()
    assert disk.written == [*events, named("two")]
    disk.behind.write()
    assert disk.written == [*events, named("two")], "once"
    assert disk.due == []


def test_what_may_wait_longest_hurries_with_what_may_not() -> None:
    disk = Disk()
    disk.behind.owe([], named("figures"), 1.0)
    disk.behind.owe([], named("more"), 1.0)
    assert disk.due == [1.0]
    disk.behind.owe([], named("state"), 0.01)
    assert disk.due == [0.01]
    disk.now = 0.005
    disk.behind.owe([], named("figures"), 1.0)
    assert disk.due == [0.01]
    disk.behind.owe([], named("now"), 0.0)
    assert (disk.written, disk.due) == ([named("now")], [])


def test_figures_that_may_wait_go_with_the_next_write() -> None:
    disk = Disk()
    disk.behind.owe([], named("figures"), math.inf)
    assert (disk.written, disk.due, disk.behind.seconds_since) == ([], [], math.inf)
    disk.behind.owe([WarningRaised(1.0, "")], None, 0.0)
    disk.now = 7.0
    assert disk.written == [WarningRaised(1.0, ""), named("figures")]
    assert disk.behind.seconds_since == 7.0


def test_more_than_figures_is_urgent_until_it_is_written() -> None:
    disk = Disk()
    disk.behind.owe([], named("figures"), math.inf)
    assert not disk.behind.urgent
    disk.behind.owe([WarningRaised(1.0, "")], None, TOLD_SECONDS)
    disk.behind.owe([], named("figures"), math.inf)
    assert disk.behind.urgent
    disk.behind.write()
    assert not disk.behind.urgent


def test_nothing_new_neither_writes_nor_hurries_anything() -> None:
    disk = Disk()
    disk.behind.owe([], None, 0.0)
    disk.behind.owe([], named("figures"), 1.0)
    disk.behind.owe([], None, 0.01)
    assert (disk.written, disk.due) == ([], [1.0])


def test_what_goes_wrong_is_told() -> None:
    disk = Disk()
    disk.problem = Problem("ACODE-VLM-029", "full")
    disk.behind.owe([], named("now"), 0.0)
    assert disk.raised == [disk.problem]
