"""One wait for descriptors, one wake-up, one switch: nothing is missed, whoever comes first."""

from __future__ import annotations

import math
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from acode_vllm.io import waits
from acode_vllm.io.waits import Interrupt, Interrupted, Wakeup, wait_ready

DEADLINE = 20.0
READABLE, WRITABLE = select.POLLIN, select.POLLOUT


def soon() -> float:
    return time.monotonic() + DEADLINE


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def wakeup() -> Iterator[Wakeup]:
    wakeup = Wakeup()
    yield wakeup
    wakeup.close()


@pytest.fixture
def alarm() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Has something done by the handler of a signal that comes in 50 ms."""
    before = signal.getsignal(signal.SIGALRM)

    def set_off(act: Callable[[], None]) -> None:
        signal.signal(signal.SIGALRM, lambda _number, _frame: act())
        signal.setitimer(signal.ITIMER_REAL, 0.05)

    yield set_off
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


class InThread:
    """Does something on another thread; `result` waits for it."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._found: list[object] = []
        self._thread = threading.Thread(target=lambda: self._found.append(act()))
        self._thread.start()

    def result(self) -> object:
        self._thread.join(DEADLINE)
        assert self._found, "it still waits"
        return self._found[0]


class TestWait:
    def test_what_is_ready_is_told_and_nothing_else(self, pair: tuple[socket.socket, socket.socket]) -> None:
        ours, theirs = pair
        assert wait_ready({ours.fileno(): READABLE, theirs.fileno(): WRITABLE}, soon()) == {theirs.fileno()}
        theirs.send(b"!")
        assert wait_ready({ours.fileno(): READABLE}, soon()) == {ours.fileno()}

    def test_a_hang_up_counts(self, pair: tuple[socket.socket, socket.socket]) -> None:
        ours, theirs = pair
        theirs.close()
        assert wait_ready({ours.fileno(): READABLE}, soon()) == {ours.fileno()}

    def test_it_ends_at_its_deadline_and_never_before(self, pair: tuple[socket.socket, socket.socket]) -> None:
        for seconds in (0.0101, 0.0, 0.0004, 0.0021):
            deadline = time.monotonic() + seconds
            assert wait_ready({pair[0].fileno(): READABLE}, deadline) == frozenset()
            assert time.monotonic() >= deadline

    @pytest.mark.parametrize("deadline", [0.0, -1.0, -math.inf])
    def test_a_deadline_that_has_passed_makes_it_a_look(
        self, pair: tuple[socket.socket, socket.socket], deadline: float
    ) -> None:
        ours, theirs = pair
        assert wait_ready({ours.fileno(): READABLE}, deadline) == frozenset()
        theirs.send(b"!")
        assert wait_ready({ours.fileno(): READABLE}, deadline) == {ours.fileno()}

    @pytest.mark.parametrize("deadline", [math.inf, 1e300])
    def test_a_deadline_beyond_what_the_kernel_counts_is_none(self, wakeup: Wakeup, deadline: float) -> None:
        waiting = InThread(lambda: wait_ready({wakeup.fileno(): READABLE}, deadline))
        wakeup.wake()
        assert waiting.result() == {wakeup.fileno()}

    def test_a_wait_that_is_longer_than_one_poll_goes_on(
        self, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(waits, "_LONGEST_MILLISECONDS", 1)
        deadline = time.monotonic() + 0.02
        assert wait_ready({pair[0].fileno(): READABLE}, deadline) == frozenset()
        assert time.monotonic() >= deadline

    def test_a_deadline_that_is_not_a_number_is_refused(self, wakeup: Wakeup) -> None:
        wakeup.wake()
        with pytest.raises(ValueError, match="not a number"):
            wait_ready({wakeup.fileno(): READABLE}, math.nan)

    def test_a_signal_does_not_end_it(self, wakeup: Wakeup, alarm: Callable[[Callable[[], None]], None]) -> None:
        heard: list[float] = []
        alarm(lambda: heard.append(time.monotonic()))
        deadline = time.monotonic() + 0.1
        assert wait_ready({wakeup.fileno(): READABLE}, deadline) == frozenset()
        assert heard
        assert heard[0] < deadline <= time.monotonic()

    def test_what_a_handler_raises_ends_it(self, wakeup: Wakeup, alarm: Callable[[Callable[[], None]], None]) -> None:
        def give_up() -> None:
            raise KeyboardInterrupt

        alarm(give_up)
        with pytest.raises(KeyboardInterrupt):
            wait_ready({wakeup.fileno(): READABLE}, soon())

    def test_a_closed_descriptor_is_ready_so_that_its_use_says_why(self) -> None:
        gone, other = os.pipe()
        os.close(gone)
        os.close(other)
        assert wait_ready({gone: READABLE}, soon()) == {gone}

    def test_a_closed_object_has_no_descriptor_to_wait_for(self, pair: tuple[socket.socket, socket.socket]) -> None:
        pair[0].close()
        with pytest.raises(ValueError, match="negative"):
            wait_ready({pair[0].fileno(): READABLE}, soon())

    def test_a_descriptor_above_1023_is_waited_for(self, wakeup: Wakeup) -> None:
        """As in a host with many connections; ``select`` refuses it."""
        high = os.dup2(wakeup.fileno(), 1030, inheritable=False)
        try:
            wakeup.wake()
            assert wait_ready({high: READABLE}, soon()) == {high}
        finally:
            os.close(high)


class TestWakeup:
    def test_a_wake_before_the_wait_is_not_lost(self, wakeup: Wakeup) -> None:
        wakeup.wake()
        wakeup.wake()
        assert wait_ready({wakeup.fileno(): READABLE}, soon())
        wakeup.clear()
        assert not wait_ready({wakeup.fileno(): READABLE}, 0.0)

    def test_clearing_what_nobody_woke_does_not_block(self, wakeup: Wakeup) -> None:
        wakeup.clear()
        assert not wait_ready({wakeup.fileno(): READABLE}, 0.0)

    def test_another_thread_ends_a_wait(self, wakeup: Wakeup) -> None:
        waiting = InThread(lambda: wait_ready({wakeup.fileno(): READABLE}, soon()))
        wakeup.wake()
        assert waiting.result() == {wakeup.fileno()}

    def test_no_wake_of_many_threads_is_missed(self, wakeup: Wakeup) -> None:
        """Whatever was put before a wake is seen after the clear."""
        done: list[int] = []
        seen = 0

        def put() -> None:
            for _ in range(500):
                done.append(1)
                wakeup.wake()

        threads = [InThread(put) for _ in range(4)]
        while seen < 2000:
            assert wait_ready({wakeup.fileno(): READABLE}, soon()), f"a wake was lost after {seen}"
            wakeup.clear()
            seen = len(done)
        for thread in threads:
            thread.result()

    def test_the_handler_of_a_signal_ends_a_wait(
        self, wakeup: Wakeup, alarm: Callable[[Callable[[], None]], None]
    ) -> None:
        alarm(wakeup.wake)
        assert wait_ready({wakeup.fileno(): READABLE}, soon()) == {wakeup.fileno()}

    def test_a_handler_may_wake_while_its_own_thread_wakes(self, wakeup: Wakeup) -> None:
        with wakeup._lock:  # as where the signal comes in the middle of a wake or a clear
            wakeup.wake()
        assert wait_ready({wakeup.fileno(): READABLE}, 0.0)

    def test_a_close_ends_the_wait_of_another_thread(self) -> None:
        wakeup = Wakeup()
        descriptor = wakeup.fileno()
        waiting = InThread(lambda: wait_ready({descriptor: READABLE}, soon()))
        wakeup.close()
        assert waiting.result() == {descriptor}

    def test_once_closed_it_touches_no_file_that_has_its_number_now(self) -> None:
        wakeup = Wakeup()
        number = wakeup.fileno()
        wakeup.close()
        successor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            assert successor == number
            wakeup.wake()
            wakeup.clear()
            wakeup.close()
            assert wakeup.fileno() == -1
            assert not wait_ready({successor: READABLE}, 0.0)
        finally:
            os.close(successor)

    def test_wakes_and_a_close_at_once_touch_nothing_else(self) -> None:
        for _ in range(200):
            wakeup = Wakeup()
            waking = InThread(lambda it=wakeup: [it.wake() for _ in range(20)])  # type: ignore[misc]
            wakeup.close()
            successors = [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(2)]
            waking.result()
            assert not wait_ready(dict.fromkeys(successors, READABLE), 0.0)
            for successor in successors:
                os.close(successor)

    def test_what_nobody_holds_gives_its_descriptor_back(self) -> None:
        before = len(os.listdir("/proc/self/fd"))
        Wakeup()
        assert len(os.listdir("/proc/self/fd")) == before


class TestInterrupt:
    @pytest.fixture
    def interrupt(self) -> Iterator[Interrupt]:
        interrupt = Interrupt()
        yield interrupt
        interrupt.close()

    def test_a_press_before_a_wait_ends_it_and_each_after_it(
        self, interrupt: Interrupt, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        interrupt.press()
        for _ in range(3):
            with pytest.raises(Interrupted):
                interrupt.wait(pair[0].fileno(), WRITABLE, soon())

    def test_a_press_ends_the_wait_in_progress(
        self, interrupt: Interrupt, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        def wait() -> str:
            try:
                interrupt.wait(pair[0].fileno(), READABLE, soon())
            except Interrupted:
                return "interrupted"
            return "ready"

        waiting = InThread(wait)
        interrupt.press()
        assert waiting.result() == "interrupted"

    def test_the_deadline_and_the_descriptor_are_told_apart(
        self, interrupt: Interrupt, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        interrupt.wait(pair[0].fileno(), WRITABLE, soon())
        with pytest.raises(TimeoutError):
            interrupt.wait(pair[0].fileno(), READABLE, time.monotonic() + 0.01)

    def test_once_closed_it_counts_as_pressed(
        self, interrupt: Interrupt, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        interrupt.close()
        interrupt.press()
        assert interrupt.pressed
        with pytest.raises(Interrupted):
            interrupt.wait(pair[0].fileno(), WRITABLE, soon())
