"""Breaks each requirement on purpose, and says whether the tests that name it fail.

    python tools/breakages.py                     # every ID of the specification
    python tools/breakages.py --id FR-020 AC-016    # only these
    python tools/breakages.py --fast              # without those that need a real vLLM

`tests/breakages/*.yml` hold the breakages: the smallest change of the product that breaks a requirement, and the tests
that name the requirement and must notice. All of it happens below `.build/breakages`, in a copy of the files that are
not ignored by git, with a virtual environment of its own. The tests first run unbroken there, for a test that always
fails proves nothing. Exit code 0 where every breakage was caught by all of its tests.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import yaml
from conformance import in_report, proofs, requirements

ROOT = Path(__file__).resolve().parent.parent
LISTS = ROOT / "tests" / "breakages"
KEYS = {"ids", "file", "find", "replace", "test", "why"}
PATIENCE = 30.0
"""Seconds that one test may take, unless it is marked with its own time."""
LIMIT = 600.0
"""Seconds for each test after which a run is ended from outside; pytest's own time-outs come long before."""
RUN = "BREAKAGES_IN"
"""Variable by which the processes of a run are found."""
NO_BREAKAGE = ("SyntaxError", "IndentationError", "NameError", "ImportError", "ModuleNotFoundError")
"""What a change must not fail with: it broke the program, and proved nothing about the requirement."""


@dataclass(frozen=True)
class Breakage:
    """One entry of the lists."""

    ids: tuple[str, ...]
    file: str
    find: str
    """Text that occurs exactly once in ``file``."""
    replace: str
    tests: tuple[str, ...]
    """As pytest names them; each of them must fail, and for each ID one of them names it."""
    why: str
    """What a user would lose; may be empty."""
    origin: str
    """The list that it is in, with its number there."""

    @property
    def real(self) -> bool:
        """Whether a real vLLM is needed."""
        return any(test.startswith("tests/real/") for test in self.tests)


@dataclass(frozen=True)
class Outcome:
    """What came of one breakage."""

    ids: tuple[str, ...]
    origin: str
    file: str
    caught: bool
    verdict: str
    """One line: by which tests it was caught, or what is wrong."""
    failures: dict[str, str]
    """Test → the first line of how it failed."""
    seconds: float


def read_lists(folder: Path = LISTS) -> list[Breakage]:
    """All breakages.

    Raises:
        ValueError: An entry lacks a key, or has one that does not exist.
    """
    found = []
    for path in sorted(folder.glob("*.yml")):
        for number, entry in enumerate(yaml.load(path.read_text(encoding="utf-8"), _LOADER), 1):
            origin = f"{path.name} {number}"
            if not KEYS - {"why"} <= set(entry) <= KEYS:
                raise ValueError(f"{origin}: has {sorted(entry)}, wanted {sorted(KEYS)}")
            ids, tests = _several(entry["ids"]), _several(entry["test"])
            found.append(
                Breakage(ids, entry["file"], entry["find"], entry["replace"], tests, entry.get("why", ""), origin)
            )
    return found


def mistakes(breakages: Sequence[Breakage], root: Path = ROOT) -> list[str]:
    """What is wrong with the lists themselves, one line each; nothing is run."""
    named = proofs(root / "tests")
    wrong = [f"{spec_id} has no breakage" for spec_id in requirements() if not any(spec_id in b.ids for b in breakages)]
    texts: dict[str, str] = {}
    for breakage in breakages:
        path = root / breakage.file
        if breakage.file not in texts:
            texts[breakage.file] = path.read_text(encoding="utf-8") if path.is_file() else ""
        count = texts[breakage.file].count(breakage.find)
        if count != 1:
            wrong.append(f"{breakage.origin}: its text occurs {count} times in {breakage.file}")
        if breakage.find == breakage.replace:
            wrong.append(f"{breakage.origin}: changes nothing")
        # What is not there makes the program fail, and its tests with it, whatever the requirement.
        unknown = sorted(name for name in _attributes(breakage.replace) if name not in texts[breakage.file])
        wrong += [f"{breakage.origin}: {breakage.file} knows no self.{name}" for name in unknown]
        tests = {test.partition("[")[0] for test in breakage.tests}
        naming = {spec_id: tests & set(named.get(spec_id, ())) for spec_id in breakage.ids}
        strangers = sorted(tests.difference(*naming.values()))
        wrong += [
            f"{breakage.origin}: none of its tests names {spec_id}" for spec_id, ours in naming.items() if not ours
        ]
        wrong += [f"{breakage.origin}: {test} names none of its IDs, or does not exist" for test in strangers]
    return wrong


class Copy:
    """The copy of the files in which things are broken."""

    def __init__(self, home: Path) -> None:
        self._root = home / "tree"
        self._report = home / "report.xml"
        self.output = home / "pytest.log"
        self._ticks = 0

    def refresh(self) -> None:
        """Makes it what the files are now, with its environment.

        Raises:
            subprocess.CalledProcessError: git, or the set-up of the environment, failed.
        """
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        names = {name for name in listed.stdout.split("\0") if (ROOT / name).is_file()}
        for folder in ("acode_vllm", "supervisor", "workers", "tests", "tools"):
            for path in (self._root / folder).rglob("*.py"):
                if path.relative_to(self._root).as_posix() not in names:
                    path.unlink()
        for name in sorted(names):
            target, content = self._root / name, (ROOT / name).read_bytes()
            if not target.is_file() or target.read_bytes() != content:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
        command = [sys.executable, "tools/setup_venv.py", ".build/venv"]
        subprocess.run(command, cwd=self._root, check=True)

    @contextlib.contextmanager
    def broken(self, breakage: Breakage) -> Iterator[None]:
        """The change, for the duration."""
        path = self._root / breakage.file
        whole, times = path.read_bytes(), path.stat()
        # In place, for the environment may hold a hard link; with a time of its own, for compiled files are told apart
        # by whole seconds and length.
        self._ticks += 1
        try:
            path.write_text(
                whole.decode("utf-8").replace(breakage.find, breakage.replace), encoding="utf-8", newline=""
            )
            os.utime(path, (times.st_atime, times.st_mtime + self._ticks))
            yield
        finally:
            path.write_bytes(whole)
            os.utime(path, (times.st_atime, times.st_mtime))

    def run(self, tests: Sequence[str]) -> dict[str, str]:
        """Runs them; test as a report names it → how it failed, or nothing where it passed in all its cases.

        A parametrised test is there once as a whole, and once for each case. What did not run is absent.
        """
        self._report.unlink(missing_ok=True)
        command = [str(self._root / ".build" / "venv" / "bin" / "pytest"), "-q"]
        options = [f"--timeout={PATIENCE:.0f}", f"--junitxml={self._report}", *tests]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment[RUN] = str(self._root)
        with (
            self.output.open("w", encoding="utf-8") as output,
            subprocess.Popen(
                [*command, *options],
                cwd=self._root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            ) as process,
        ):
            try:
                process.wait(LIMIT * len(tests))
            except subprocess.TimeoutExpired:
                print(f"ended from outside: {self.output}")
            finally:
                self._end_all()
        return self._results()

    def _end_all(self) -> None:
        """End whatever was started here and is left: of a program that is broken that may be anything."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(RUN) == str(self._root):
                    process.kill()

    def _results(self) -> dict[str, str]:
        results: dict[str, str] = {}
        if not self._report.is_file():
            return results
        for case in ET.parse(self._report).iter("testcase"):
            if case.find("skipped") is not None:
                continue
            failed = next((found for tag in ("failure", "error") if (found := case.find(tag)) is not None), None)
            how = "" if failed is None else _first_line(failed.get("message") or "") or "failed"
            name = f"{case.get('classname')}::{case.get('name')}"
            for key in {name, name.partition("[")[0]}:
                results[key] = results.get(key) or how
        return results


def prove(copy: Copy, breakage: Breakage, unbroken: dict[str, str]) -> Outcome:
    """Applies one breakage, runs its tests, and takes it back."""
    started = time.monotonic()
    failures: dict[str, str] = {}
    wrong = [f"{test} fails unbroken: {how}" for test in breakage.tests if (how := unbroken.get(_key(test)))]
    wrong += [f"{test} does not run here" for test in breakage.tests if _key(test) not in unbroken]
    if not wrong:
        with copy.broken(breakage):
            results = copy.run(breakage.tests)
        failures = {test: how for test in breakage.tests if (how := results.get(_key(test)))}
        wrong += [f"{test} passes" for test in breakage.tests if results.get(_key(test)) == ""]
        wrong += [f"{test} did not run: the change broke more" for test in breakage.tests if _key(test) not in results]
        wrong += [f"{test}: {how}" for test, how in failures.items() if how.startswith(NO_BREAKAGE)]
    verdict = f"NOT caught: {'; '.join(wrong)}" if wrong else f"caught by {', '.join(breakage.tests)}"
    took = time.monotonic() - started
    return Outcome(breakage.ids, breakage.origin, breakage.file, not wrong, verdict, failures, round(took, 1))


def main() -> int:
    """0 where everything that was asked for was caught."""
    parser = argparse.ArgumentParser(description="Whether the tests that name a requirement fail when it is broken.")
    parser.add_argument(
        "--id", nargs="+", action="extend", default=[], metavar="ID", help="only these; the default is every ID"
    )
    parser.add_argument("--fast", action="store_true", help="without the breakages that need a real vLLM")
    parser.add_argument("--real", action="store_true", help="only the breakages that need a real vLLM")
    parser.add_argument("--home", type=Path, default=ROOT / ".build" / "breakages", help="where the copy is made")
    arguments = parser.parse_args()
    everything = read_lists()
    wrong = mistakes(everything)
    chosen = [
        breakage
        for breakage in everything
        if (not arguments.id or set(arguments.id) & set(breakage.ids))
        and not (arguments.fast and breakage.real)
        and not (arguments.real and not breakage.real)
    ]
    for line in wrong:
        print(line)
    if not chosen:
        print("no such breakage")
        return 1
    started = time.monotonic()
    copy = Copy(arguments.home.resolve())
    copy.refresh()
    tests = sorted({test for breakage in chosen for test in breakage.tests})
    print(f"{len(tests)} tests, unbroken …", flush=True)
    unbroken = copy.run(tests)
    if not unbroken:
        print(f"not one of them ran: {copy.output}")
    outcomes = []
    for breakage in sorted(chosen, key=lambda one: one.real):
        outcomes.append(prove(copy, breakage, unbroken))
        print(f"{' '.join(breakage.ids)}  {outcomes[-1].verdict} ({outcomes[-1].seconds:.0f} s)", flush=True)
    results = arguments.home / "results.json"
    results.write_text(json.dumps([asdict(one) for one in outcomes], indent=2) + "\n", encoding="utf-8")
    ids = {spec_id for one in outcomes for spec_id in one.ids if not arguments.id or spec_id in arguments.id}
    missed = {spec_id for one in outcomes if not one.caught for spec_id in one.ids} & ids
    print(f"{len(ids - missed)} of {len(ids)} IDs caught, by {len(outcomes)} breakages, in {_minutes(started)}")
    if missed:
        print(f"NOT caught: {' '.join(sorted(missed))}")
    print(results)
    return 1 if missed or wrong else 0


def _attributes(text: str) -> set[str]:
    return set(re.findall(r"\bself\.(\w+)", text))


def _key(test: str) -> str:
    """A test as its report names it, with its case where it has one."""
    name, bracket, case = test.partition("[")
    return in_report(name) + bracket + case


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:300]


def _minutes(started: float) -> str:
    seconds = round(time.monotonic() - started)
    return f"{seconds // 60} min {seconds % 60} s"


def _several(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


if __name__ == "__main__":
    sys.exit(main())
