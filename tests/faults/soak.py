"""Does a service on the stand-in server all kinds of harm for a while, and tells what came of it.

    python tests/faults/soak.py [--minutes 20] [--seed N] [--quick] [--json FILE]      (make soak MINUTES=20)

A keeper and three clients that send requests all the time; every few seconds something is killed, hung, cut off or
lied to. What ends is started again, as systemd would; what the restart limit holds down is started by hand, as a person
would. Ends with 1 where something was not recovered from, or something leaked: a thread, a file, memory, a process,
shared memory, an entry of the history.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parents[1] / name) for name in ("support", "../tools"))

from leaks import MARK, Snapshot
from soak_faults import FAULTS, Fault
from soak_report import Measure, Summary
from soak_world import World

from acode_vllm.records.recorded import RecordedService
from acode_vllm.vocabulary.history import History
from acode_vllm.vocabulary.server_process import ServerProcess
from acode_vllm.workers.machine.shared_memory import remove_unused

RECOVER_SECONDS = 120.0
"""From a fault to a server that answers: a hung API server alone takes 30 s to be found out."""
SEEN_FOR_SECONDS = 25.0
"""How long shared memory must have been in use for its owner to have noticed whose it is."""


class Soak:
    """One soak.

    Args:
        folder: Empty; everything is in there.
        summary: Where it is told what happens.
        seconds: How long faults are injected.
        clients: How many.
        pauses: Seconds between a recovery and the next fault, at least and at most.
        kinds: What may happen.
    """

    def __init__(
        self,
        folder: Path,
        summary: Summary,
        seconds: float,
        clients: int = 3,
        pauses: tuple[float, float] = (0.5, 3.0),
        kinds: tuple[Fault, ...] = FAULTS,
    ) -> None:
        self._summary = summary
        self._chance = random.Random(summary.seed)
        self._seconds = seconds
        self._pauses = pauses
        self._kinds = kinds
        self._used: dict[str, float] = {}
        self._world = World(folder, clients, settle_seconds=min(20.0, seconds / 6))

    def run(self) -> None:
        """Do harm until the time is over, then end everything and look at what is left."""
        world, summary = self._world, self._summary
        began = time.monotonic()
        self._recover("its beginning", None, None, began)
        first = Measure.of(os.getpid())
        while time.monotonic() - began < self._seconds:
            self._rest(self._chance.uniform(*self._pauses))
            self._harm()
        summary.seconds = time.monotonic() - began
        self._rest(2.0)
        last = Measure.of(os.getpid())
        assert first is not None
        assert last is not None
        summary.director = (first, last)
        world.measure(time.monotonic())
        world.check_history()
        entries = [entry.event for entry in History(world.acode.folder.history).read()]
        summary.history_entries, summary.restarts = len(entries), entries.count("restart")
        world.close()
        summary.lives = list(world.lives.values())
        summary.outcomes = world.outcomes()
        summary.refused_by_the_limit = world.refused_by_the_limit
        summary.history_lost, summary.stuck = world.history_lost, world.stuck
        known = [file for file, (since, until) in world.shared.items() if until - since >= SEEN_FOR_SECONDS]
        summary.left_behind += [f"shared memory {name}" for name in remove_unused(known)]
        world.clear_shared_memory()

    def _harm(self) -> None:
        """Inject a fault, now and then two at once, and wait until the service is well again."""
        now = time.monotonic()
        ready = [one for one in self._kinds if now - self._used.get(one.name, -1e9) >= one.rest]
        faults = self._chance.sample(ready, 2 if self._chance.random() < 0.15 else 1)
        before = self._world.running()
        self._world.measure(now)
        for fault in faults:
            self._used[fault.name] = now
            self._summary.faults[fault.name] += 1
            fault.inject(self._world, self._chance)
        costs = faults[0].costs if len(faults) == 1 and before is not None else None
        self._recover(" and ".join(fault.name for fault in faults), before, costs, now)

    def _recover(self, what: str, before: ServerProcess | None, costs: bool | None, since: float) -> None:
        deadline = time.monotonic() + RECOVER_SECONDS
        server = self._world.running()
        while server is None or (costs and server == before):
            if time.monotonic() > deadline:
                self._summary.not_recovered.append(f"{what}: {_told(self._world.look())}")
                return
            self._world.tend()
            self._rest(0.1)
            server = self._world.running()
        self._world.tend()
        self._summary.recoveries.append(time.monotonic() - since)
        if costs is False and server != before:
            self._summary.pid_changed.append(f"{what}: {_told(self._world.look())}")
        self._world.check_history()

    @staticmethod
    def _rest(seconds: float) -> None:
        threading.Event().wait(seconds)


def _told(seen: RecordedService | None) -> str:
    if seen is None:
        return "no record"
    status = seen.status
    return f"{status.state.value}, {status.reason}, PID {status.pid}, watched by {seen.owner_pid}"


def soak(summary: Summary, seconds: float, **options: object) -> None:
    """Run one in a folder and an environment of its own, and see what it leaves behind."""
    mark, environ = f"soak-{os.getpid()}-{summary.seed}", dict(os.environ)
    os.environ[MARK] = mark
    snapshot = Snapshot.take(mark)
    try:
        with tempfile.TemporaryDirectory(prefix="acode-soak-") as name:
            Soak(Path(name), summary, seconds, **options).run()  # type: ignore[arg-type]
    finally:
        summary.left_behind += snapshot.leaks()
        os.environ.clear()
        os.environ.update(environ)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=None, help="of an earlier run; a new one if not given")
    parser.add_argument("--quick", action="store_true", help="without hangs, which take half a minute to be found out")
    parser.add_argument("--json", type=Path, default=None, help="write the summary there, too")
    options = parser.parse_args()
    summary = Summary(secrets.randbelow(10**6) if options.seed is None else options.seed)
    print(f"a soak of {options.minutes:g} minutes, seed {summary.seed}", flush=True)
    soak(summary, options.minutes * 60, kinds=tuple(one for one in FAULTS if not (options.quick and one.slow)))
    print(summary.text())
    if options.json is not None:
        options.json.write_text(json.dumps(summary.data(), indent=1), encoding="utf-8")
    return 1 if summary.failures() else 0


if __name__ == "__main__":
    raise SystemExit(main())
