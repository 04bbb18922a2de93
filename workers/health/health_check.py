"""One whole check of one server: process, owner of the listener, ``/health``, ``/v1/models``, engine, in this order.

A check stops at the first part that is unhealthy: what follows would only say the same in other words.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Protocol
from urllib.parse import urlsplit

from acode_vllm.io.waits import Interrupt
from acode_vllm.vocabulary.health import HealthReport, PartReport, Verdict
from acode_vllm.vocabulary.server_process import ServerProcess
from acode_vllm.workers.gpu.evidence import GpuEvidence
from acode_vllm.workers.health.engine_look import LOOK_SECONDS, EngineLimits, EngineLook
from acode_vllm.workers.health.engine_verdict import SLOW_SECONDS
from acode_vllm.workers.health.probe import Probe, ProbeError, RefusedError, Response
from acode_vllm.workers.messages.health_messages import Watch


class ServerView(Protocol):
    """What the operating system says of one server's processes; for one thread."""

    def alive(self) -> bool:
        """Whether the process that was started, the API server, runs."""
        ...

    def pids(self) -> Collection[int]:
        """The PIDs of its whole tree."""
        ...

    def cpu_seconds(self) -> float | None:
        """CPU time of the whole tree so far; None if unknown."""
        ...

    def listeners(self, port: int, address: str | None, tree: Collection[int]) -> Sequence[Collection[int]]:
        """The holders of each socket that a connection to this port and address (None: any) may reach.

        If the ``tree`` (its PIDs) holds a socket, its holders in the tree are enough. Other users' may be missing.
        """
        ...


@dataclass(frozen=True)
class HealthEdges:
    """What a check asks of the machine that the server runs on.

    Attributes:
        view: How one server's processes are looked at.
    """

    view: Callable[[ServerProcess], ServerView]


class HealthCheck:
    """Checks one server again and again. For one thread, except for the interrupt.

    Args:
        watch: The target.
        machine: The machine that the target runs on, if it is this one.
        interrupt: Ends what blocks.
        monotonic: The clock of `HealthReport.monotonic` and of the engine's intervals.
        wall: Wall-clock time for `HealthReport.at`.
        gpus: What is known of the machine's devices; None for nothing.
    """

    def __init__(
        self,
        watch: Watch,
        machine: HealthEdges,
        interrupt: Interrupt,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        gpus: GpuEvidence | None = None,
    ) -> None:
        self._wanted = watch.served_name
        self._view = machine.view(watch.server) if watch.server is not None else None
        self._port = watch.server.port if watch.server is not None else 0
        self._address = numeric_address(urlsplit(watch.url).hostname or "")
        self._probe = Probe(watch.url, api_key=watch.api_key, interrupt=interrupt)
        self._limits = EngineLimits(
            watch.options.engine_check_timeout_seconds, watch.options.engine_stall_timeout_seconds
        )
        cpu_seconds = self._view.cpu_seconds if self._view is not None else _unknown_cpu
        self._gpus = gpus if self._view is not None else None
        self._tree: Collection[int] = ()
        self._engine = EngineLook(
            monotonic,
            cpu_seconds,
            lambda: self._gpus.busy(self._tree) if self._gpus is not None else None,
            lambda: self._gpus.held_bytes(self._tree) if self._gpus is not None else None,
        )
        self._monotonic = monotonic
        self._wall = wall

    @property
    def probe(self) -> Probe:
        """The connection to the server, for looks that are no check; the user closes it or keeps it."""
        return self._probe

    def knock(self) -> bool:
        """Whether anything listens; takes a fraction of a millisecond if not. The connection is kept for `run`.

        Raises:
            Interrupted: The switch was pressed.
        """
        try:
            self._probe.connect(LOOK_SECONDS)
        except ProbeError:
            return False
        return True

    def run(self, *, deep: bool) -> HealthReport:
        """Check, and close the connection first: nobody waits for the report. See `looking`."""
        with self.looking(deep=deep) as report:
            return report

    @contextmanager
    def looking(self, *, deep: bool) -> Iterator[HealthReport]:
        """Check, and close the connection after the report was passed on, so that nobody waits for the close.

        Each look has `LOOK_SECONDS` (FR-019), the one-token completion its own time. Each check makes a new
        connection: an answer on a kept one does not prove that new ones are accepted.

        Args:
            deep: Whether to look at the engine too.

        Raises:
            Interrupted: The switch was pressed.
        """
        try:
            yield self._report(deep)
        finally:
            self._probe.close()

    def _report(self, deep: bool) -> HealthReport:
        began = self._monotonic()
        parts: list[PartReport] = []
        for part in self._looks(deep):
            parts.append(part)
            if part.verdict is Verdict.UNHEALTHY:
                break
        ended = self._monotonic()
        counters = self._engine.counters if deep else None
        rates = self._engine.meter.rates if deep else None
        return HealthReport(
            at=self._wall(),
            monotonic=ended,
            verdict=worst(part.verdict for part in parts),
            parts=tuple(parts),
            seconds=ended - began,
            requests_running=counters.requests_running if counters else None,
            requests_waiting=counters.requests_waiting if counters else None,
            generation_tokens=counters.generation_tokens if counters else None,
            prompt_tokens=counters.prompt_tokens if counters else None,
            generation_tokens_per_second=rates.generation if rates else None,
            prompt_tokens_per_second=rates.prompt if rates else None,
            rate_seconds=rates.seconds if rates else None,
        )

    def close(self) -> None:
        """Close a connection that `knock` left."""
        self._probe.close()

    def _looks(self, deep: bool) -> Iterator[PartReport]:
        if self._view is not None:
            self._probe.prepare()  # nothing is sent before the listener is known to be the server: not to a stranger
            yield self._look_at_process(self._view)
            yield self._look_at_listener(self._view)
        yield self._ask("health", "/health", judge_health)
        names: list[str] = []

        def judge(answer: Response) -> tuple[Verdict, str]:
            nonlocal names
            names = served_models(answer)
            return judge_models(answer, names, self._wanted)

        yield self._ask("models", "/v1/models", judge)
        if deep:
            yield self._engine.look(self._probe, self._wanted or names[0], self._limits)
        began = self._monotonic()
        warnings = self._gpus.warnings(self._tree) if self._gpus is not None else None
        if warnings is not None:
            verdict = Verdict.DEGRADED if warnings else Verdict.HEALTHY
            yield PartReport("gpu", verdict, self._monotonic() - began, "; ".join(warnings))

    def _look_at_process(self, view: ServerView) -> PartReport:
        began = self._monotonic()
        alive = view.alive()
        reason = "" if alive else "the process is gone"
        return PartReport("process", _verdict(alive), self._monotonic() - began, reason)

    def _look_at_listener(self, view: ServerView) -> PartReport:
        began = self._monotonic()
        tree = self._tree = view.pids()
        reason = judge_listener(self._port, view.listeners(self._port, self._address, tree), tree)
        return PartReport("listener", _verdict(not reason), self._monotonic() - began, reason)

    def _ask(self, part: str, path: str, judge: Callable[[Response], tuple[Verdict, str]]) -> PartReport:
        began = self._monotonic()
        try:
            answer = self._probe.get(path, LOOK_SECONDS)
            verdict, reason = judge(answer)
        except RefusedError:
            verdict, reason = Verdict.UNHEALTHY, "connection refused: nobody listens"
        except ProbeError as error:
            verdict, reason = Verdict.UNHEALTHY, str(error)
        seconds = self._monotonic() - began
        if verdict is Verdict.HEALTHY and seconds > SLOW_SECONDS:
            verdict, reason = Verdict.DEGRADED, f"slow: {seconds:.1f} s"
        return PartReport(part, verdict, seconds, reason, self._probe.url(path))


def judge_listener(port: int, sockets: Sequence[Collection[int]], tree: Collection[int]) -> str:
    """Why the listener on the port is not the server that was started; empty if it is.

    A second server can lose its port to a stranger that answers ``/health`` as well, or to an orphan of its own kind;
    and older versions set SO_REUSEPORT, so that two servers can share a port in silence.
    """
    strangers = [holders for holders in sockets if not set(holders) & set(tree)]
    if strangers:
        names = [f"PID {pid}" for holders in strangers for pid in sorted(holders)] or ["a process of another user"]
        return f"port {port} is listened on by {', '.join(names)}, not by the server that was started"
    return "" if sockets else f"nobody listens on port {port}"


def judge_health(answer: Response) -> tuple[Verdict, str]:
    """What ``/health`` says (FR-016): 200, or 503 once the engine has died."""
    if answer.status == 200:
        return Verdict.HEALTHY, ""
    return Verdict.UNHEALTHY, f"status {answer.status}"


def served_models(answer: Response) -> list[str]:
    """The names that ``/v1/models`` lists; none if it says something else.

    Raises:
        ProbeError: It is not JSON.
    """
    content = answer.json() if answer.status == 200 else None
    entries = content.get("data") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        return []
    return [entry["id"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]


def judge_models(answer: Response, names: list[str], wanted: str | None) -> tuple[Verdict, str]:
    """What ``/v1/models`` says (FR-017, FR-018): the wanted model is among the served ones."""
    if answer.status == 401:
        return Verdict.UNHEALTHY, "status 401: the server wants another API key than VLLM_API_KEY holds"
    if answer.status != 200:
        return Verdict.UNHEALTHY, f"status {answer.status}"
    if not names:
        return Verdict.UNHEALTHY, "it lists no model"
    if wanted is not None and wanted not in names:
        return Verdict.UNHEALTHY, f"it serves {', '.join(names)}, not {wanted}"
    return Verdict.HEALTHY, ""


def worst(verdicts: Iterator[Verdict]) -> Verdict:
    """The worst of them; healthy if there are none."""
    order = (Verdict.HEALTHY, Verdict.DEGRADED, Verdict.UNHEALTHY)
    return max(verdicts, key=order.index, default=Verdict.HEALTHY)


def numeric_address(host: str) -> str | None:
    """The host if it is an address; None for a name, which may have several addresses."""
    try:
        return str(ip_address(host))
    except ValueError:
        return None


def _verdict(well: bool) -> Verdict:
    return Verdict.HEALTHY if well else Verdict.UNHEALTHY


def _unknown_cpu() -> float | None:
    return None
