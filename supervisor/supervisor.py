"""The supervisor: it starts, watches, restarts and stops its children."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TypeVar

from .events import SupervisorEvent, log_event
from .handle import SupervisorHandle
from .process.clock import SYSTEM_CLOCK, Clock, deadline_after
from .process.errors import AlreadyStarted, CallTimeout, InvalidSpec, StartFailed
from .process.process import Process
from .process.reasons import SHUTDOWN, Shutdown
from .process.shown import plain, show
from .process.startable import Startable
from .spec import AutoShutdown, ChildSpec, check_specs, require_intensity
from .supervisor_loop import SupervisorLoop, SupervisorOptions

_Self = TypeVar("_Self", bound="Supervisor")  # typing.Self came with Python 3.11


class Supervisor(SupervisorHandle):
    """OTP's ``supervisor`` with the strategy ``one_for_one``: only the child that ended is restarted.

    It runs on a thread of its own. Start a root with :meth:`start`; return a nested one from
    the ``ChildSpec.start`` of another supervisor. Each object is started at most once.

    Args:
        children: Started in this order, stopped in reverse.
        intensity: How many automatic restarts are allowed within ``period``, for all children
            together. At one more the supervisor gives up: it stops its children and ends with
            SHUTDOWN.
        period: Seconds.
        auto_shutdown: Whether the end of significant children ends it.
        clock: For all delays and time-outs of the tree. None: the clock of the supervisor
            above; for a root, the system's.
        intensity_clock: Returns the seconds by which ``period`` is measured, for example time
            in service. None: ``clock``.
        name: For threads and events. None: the child's id; for a root, "supervisor".
        on_event: Gets every event, on the supervisor's thread, so it must be quick and must
            not call this supervisor. If it raises, that is logged and changes nothing. None:
            events are logged.

    Raises:
        InvalidSpec: A value that OTP would refuse too; nothing was started.
    """

    def __init__(
        self,
        children: Iterable[ChildSpec] = (),
        *,
        intensity: int = 1,
        period: float = 5.0,
        auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
        clock: Clock | None = None,
        intensity_clock: Callable[[], float] | None = None,
        name: str | None = None,
        on_event: Callable[[SupervisorEvent], None] | None = None,
    ) -> None:
        plain_name = "supervisor" if name is None else plain(name)
        if not plain_name:
            raise InvalidSpec(f"name must be a string that is not empty, not {show(name)}")
        super().__init__(plain_name)
        require_intensity(intensity, period)
        if not isinstance(auto_shutdown, AutoShutdown):
            raise InvalidSpec(f"auto_shutdown must be an AutoShutdown, not {show(auto_shutdown)}")
        for option, value in (("intensity_clock", intensity_clock), ("on_event", on_event)):
            if value is not None and not callable(value):
                raise InvalidSpec(f"{option} must be callable, not {show(value)}")
        if clock is not None and not all(callable(getattr(clock, method, None)) for method in ("monotonic", "wait")):
            raise InvalidSpec(f"clock must have monotonic() and wait(), unlike {show(clock)}")
        self._named = name is not None
        self._clock = clock
        self._options = SupervisorOptions(
            children=check_specs(children, auto_shutdown),
            intensity=intensity,
            period=period,
            auto_shutdown=auto_shutdown,
            intensity_clock=intensity_clock,
            on_event=log_event if on_event is None else on_event,
        )

    def start(self, timeout: float | None = None) -> None:
        """Start a root supervisor on a thread of its own; return when every child is up.

        Args:
            timeout: Seconds, on the tree's clock; None waits for ever.

        Raises:
            StartFailed: A child did not initialise; the earlier ones are stopped.
            CallTimeout: The time ran out; the tree is being stopped.
            AlreadyStarted: It was started before.
        """
        clock = SYSTEM_CLOCK if self._clock is None else self._clock
        deadline = deadline_after(clock, timeout)
        process = self._make_process(self._name, clock, None)
        try:
            process.start()
            up = process.wait_until(lambda it: it.up or it.settled, deadline)
        except BaseException:
            # Ctrl-C while waiting: the tree must not come up behind the caller's back.
            process.inbox.ask_to_end(SHUTDOWN)
            raise
        if not up:
            process.inbox.ask_to_end(SHUTDOWN)
            raise CallTimeout(f"{self.name} is not up within {timeout} s")
        reason = process.reason
        if process.up or reason is None:
            return
        process.join()
        if isinstance(reason, Shutdown) and isinstance(reason.term, StartFailed):
            raise reason.term
        raise StartFailed(self.name, reason)

    def __enter__(self: _Self) -> _Self:  # noqa: PYI019 - typing.Self came with Python 3.11
        """Start it."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop it and wait for its end."""
        self.stop()

    def _make_process(self, name: str, clock: Clock, parent: Process | None) -> Process:
        if self._incarnation is not None:
            raise AlreadyStarted(self.name, self.ref)
        loop = SupervisorLoop(self, self._options, self._published)
        self._incarnation = Process(loop, name=name, clock=clock, parent=parent, mailbox_size=loop.MAILBOX_SIZE)
        return self._incarnation

    def incarnate(self, child_id: str, supervisor: Startable) -> Process:
        """See :meth:`.Startable.incarnate`."""
        assert isinstance(supervisor, SupervisorHandle)
        if not self._named:
            self._name = child_id
        above = supervisor.incarnation
        clock = above.clock if self._clock is None else self._clock
        return self._make_process(f"{supervisor.name}/{child_id}", clock, above)
