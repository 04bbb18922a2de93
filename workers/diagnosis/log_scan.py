"""Searches the log of a server that ended for the first specific cause and for the most telling lines.

Bounded for any size of the file: it reads at most `WINDOW` bytes from each end of the part that matters, in chunks, and
keeps a few lines. What the server survived is not why it died, so the search begins after the last sign that it served.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from acode_vllm.vocabulary.server_process import LogPlace
from acode_vllm.workers.diagnosis.cause_rule import CauseRule, Match, Weight, match_line
from acode_vllm.workers.diagnosis.rules import GENERIC, RULES
from acode_vllm.workers.diagnosis.said import exception_in, one_text
from acode_vllm.workers.log.pieces import LogPieces
from acode_vllm.workers.vllm.log_file import body_of, clean, level_of, process_of, strip_process

CHUNK = 256 * 1024
WINDOW = 4 * 1024 * 1024
LIFE_WINDOW = 64 * 1024 * 1024
_TRIES = 3
"""A log that is rotated while it is searched is searched again."""
KEPT = 2
"""Telling lines kept from the beginning, and as many from the end."""

_TELLING = (b"rror", b"xception", b"annot ", b"No such", b"ot found", b"unexpectedly", b"nsupported", b"fatal")
"""A line with one of these may tell something if no row of the table fits."""

_LINES_LOOKED_AT = 200
"""Lines of a chunk that are tried as telling ones, from each end."""

_LINKS = (b"The above exception was the direct cause", b"During handling of the above exception")
"""Between two exceptions of one chain. The last of the chain explains the others."""

_DEATH = (b" unexpectedly", b"Failed core proc(s): {'", b"Fatal Python error", b"Segfault encountered")
_LIFE = (b"Application startup complete", b'"POST /v1/')
_DIED = re.compile(r"(?P<who>\S+) (?:died|exited) unexpectedly(?: \(exit code: (?P<code>-?\d+)\))?")
_FAILED = re.compile(r"Failed core proc\(s\): \{'(?P<who>[^']+)': (?P<code>-\d+)")
_FATAL = re.compile(r"Fatal Python error: (?P<what>[\w ]+)|(?P<segfault>Segfault encountered)")
_WAITED = b"No available shared memory broadcast block found"
_TIME = re.compile(r"^\w+ \d\d-\d\d (?P<time>\d\d:\d\d:\d\d)")
_PID = re.compile(rb"^\([A-Za-z][\w:-]* pid=(\d+)\)", re.MULTILINE)
_CODE = "    "
"""How a line of source code begins in a traceback."""

_FRAME = re.compile(
    r"^\s*(?:File \"|\^|~|Traceback |The above exception|During handling|For further information|Please verify|$)"
)
_NEEDLES: tuple[tuple[CauseRule, tuple[bytes, ...]], ...] = tuple(
    (rule, tuple(needle.encode() for needle in rule.needles)) for rule in RULES
)


@dataclass(frozen=True)
class DeadPart:
    """A process of vLLM's tree that ended before the server did.

    Attributes:
        who: Its name: "VllmWorker-0", "EngineCore".
        code: Its exit code where the log says; negative for a signal.
        line: What says so.
    """

    who: str
    code: int | None
    line: str


@dataclass(frozen=True)
class HungWorker:
    """The engine waited for a worker, and said so again and again.

    Attributes:
        first: The first line that says so.
        since: Its time of day; empty if it has none.
        until: That of the last such line.
        before: What the log said before: what the worker was doing.
    """

    first: str
    since: str
    until: str
    before: str


@dataclass
class LogScan:
    """What was found.

    Attributes:
        cause: The first specific cause, or else the first vague one; None if the log has neither.
        evidence: The lines that prove it.
        said: The exception that ended it, in vLLM's words: the last of the first chain; empty if there is none.
        telling: The first and the last lines that report an error and are not generic.
        last: The last lines that are not noise.
        served: Whether it had begun to serve.
        answered: Whether it had answered a request for text.
        died: What the log says of a process of the tree that ended by itself.
        fatal: What Python's or PyTorch's own handler of fatal signals said.
        hung: A worker that the engine waited for.
        pids: The processes that wrote to the log.
        told: The line that says that a signal told it to end, if that was the first sign of its end.
    """

    cause: Match | None = None
    evidence: tuple[str, ...] = ()
    said: str = ""
    telling: list[str] = field(default_factory=list)
    last: tuple[str, ...] = ()
    served: bool = False
    answered: bool = False
    died: DeadPart | None = None
    fatal: str | None = None
    hung: HungWorker | None = None
    pids: frozenset[int] = frozenset()
    told: str = ""


def scan(path: Path, place: LogPlace) -> LogScan:
    """Search the log and its rotated copies from ``place`` on. A log that does not exist tells nothing.

    Raises:
        OSError: It exists and cannot be read.
    """
    found = LogScan()
    for _ in range(_TRIES):
        try:
            log = LogPieces(path, place)
        except FileNotFoundError:
            break
        with log:
            life = _last_life(log)
            found = LogScan(served=life is not None, answered=life is not None and life.answered)
            _search(log, log.begin if life is None else life.end, found)
            _read_end(log, found)
            if not log.changed():
                break
    return found


@dataclass(frozen=True)
class _Life:
    """The last line that proves that it served: where it ends, and whether it is an answer."""

    end: int
    answered: bool


def _last_life(log: LogPieces) -> _Life | None:
    """The last line that proves that it served; None if none does."""
    end, first = log.size, max(log.begin, log.size - LIFE_WINDOW)
    while end > first:
        start = max(first, end - CHUNK)
        # A little more, so that a line across the border is complete.
        chunk = log.pread(end - start + 512, start)
        began, answer = chunk.rfind(_LIFE[0]), _last_answer(chunk)
        place = max(began, answer)
        if place >= 0:
            line_end = chunk.find(b"\n", place)
            return _Life(start + (line_end + 1 if line_end >= 0 else place), answer > began)
        end = start
    return None


def _last_answer(chunk: bytes) -> int:
    """Where the last request begins that was answered with 200; -1 if there is none."""
    place = chunk.rfind(_LIFE[1])
    while place >= 0:
        line_end = chunk.find(b"\n", place)
        if b'" 200' in chunk[place : line_end if line_end >= 0 else len(chunk)]:
            return place
        place = chunk.rfind(_LIFE[1], 0, place)
    return -1


def _search(log: LogPieces, begin: int, found: LogScan) -> None:
    late: list[str] = []
    for chunk in _chunks(log, begin):
        for start, end in _lines_with(chunk, _DEATH):
            _note_death(body_of(clean(chunk[start:end])), found)
        if _WAITED in chunk:
            _note_waits(chunk, found)
        if _find_cause(chunk, found):
            return
        lines = _lines_with(chunk, _TELLING)
        if not found.said:
            found.said = _said(chunk, lines[:_LINES_LOOKED_AT])
        if len(found.telling) < KEPT:
            _take(chunk, lines[:_LINES_LOOKED_AT], found.telling)
        latest: list[str] = []
        _take(chunk, lines[: -_LINES_LOOKED_AT - 1 : -1], latest)
        late = [*late, *reversed(latest)][-KEPT:]
    found.telling.extend(line for line in late if line not in found.telling)


def _find_cause(chunk: bytes, found: LogScan) -> bool:
    """Look for causes in one chunk. True if a specific one was found, which ends the search."""
    present = [(rule, needles) for rule, needles in _NEEDLES if any(needle in chunk for needle in needles)]
    rules = [rule for rule, _ in present]
    for start, end in _lines_with(chunk, [needle for _, needles in present for needle in needles]):
        line = clean(chunk[start:end])
        if not _reports(line):
            continue
        match = match_line(rules, one_text(body_of(line)))
        if match is None or (match.rule.weight is Weight.VAGUE and found.cause is not None):
            continue
        found.cause = match
        found.evidence = (body_of(line), *_continuation(line, chunk, end))
        if match.rule.weight is Weight.SPECIFIC:
            return True
    return False


def _reports(line: str) -> bool:
    """Whether a line may name a cause. A warning was survived, and code in a traceback only quotes a text."""
    return level_of(line) not in ("DEBUG", "INFO", "WARNING") and not body_of(line).startswith(_CODE)


def _is_generic(body: str) -> bool:
    return any(generic in body for generic in GENERIC)


def _said(chunk: bytes, lines: list[tuple[int, int]]) -> str:
    """The last exception of the first chain among these lines that is not generic."""
    said, after = "", 0
    for start, end in lines:
        line = clean(chunk[start:end])
        body = one_text(body_of(line))
        if not _reports(line) or not exception_in(body) or _is_generic(body):
            continue
        if said and not any(link in chunk[after:start] for link in _LINKS):
            break
        said, after = body, end
    return said


def _take(chunk: bytes, lines: list[tuple[int, int]], into: list[str]) -> None:
    """Add the bodies of telling lines, in the order given, until there are `KEPT`."""
    for start, end in lines:
        line = clean(chunk[start:end])
        body = one_text(body_of(line))
        if not _reports(line) or _FRAME.match(body) or _is_generic(body):
            continue
        if body not in into:
            into.append(body)
        if len(into) >= KEPT:
            return


def _note_death(body: str, found: LogScan) -> None:
    if found.died is None and (died := _DIED.search(body) or _FAILED.search(body)):
        who = "EngineCore" if died["who"] == "core" else died["who"]
        found.died = DeadPart(who, int(died["code"]) if died["code"] else None, body)
    if found.fatal is None and (fatal := _FATAL.search(body)):
        found.fatal = fatal["what"] or "Segmentation fault"


def _note_waits(chunk: bytes, found: LogScan) -> None:
    lines = _lines_with(chunk, (_WAITED,))
    first, last = (strip_process(clean(chunk[start:end])) for start, end in (lines[0], lines[-1]))
    if found.hung is None:
        before = [clean(raw) for raw in chunk[: lines[0][0]].split(b"\n")[-8:] if raw.strip()]
        found.hung = HungWorker(body_of(first), _time_of(first), "", body_of(before[-1]) if before else "")
    found.hung = replace(found.hung, until=_time_of(last))


def _time_of(line: str) -> str:
    header = _TIME.match(line)
    return header["time"] if header else ""


def _chunks(log: LogPieces, begin: int) -> Iterator[bytes]:
    """The part from ``begin`` on, in pieces that end with a line. The middle of a very long one is left out."""
    if log.size - begin <= 2 * WINDOW:
        yield from _span(log, begin, log.size)
    else:
        yield from _span(log, begin, begin + WINDOW)
        yield from _span(log, log.size - WINDOW, log.size)


def _span(log: LogPieces, begin: int, end: int) -> Iterator[bytes]:
    rest = b""
    for place in range(begin, end, CHUNK):
        data = rest + log.pread(min(CHUNK, end - place), place)
        cut = data.rfind(b"\n") + 1
        if cut == 0 and len(data) < 2 * CHUNK:
            rest = data
            continue
        yield data[:cut] if cut else data
        rest = data[cut:] if cut else b""
    if rest:
        yield rest


def _lines_with(chunk: bytes, words: Iterable[bytes]) -> list[tuple[int, int]]:
    """Begin and end of each line that contains one of the words, in order."""
    lines: dict[int, int] = {}
    for word in words:
        place = chunk.find(word)
        while place >= 0:
            end = chunk.find(b"\n", place)
            end = end if end >= 0 else len(chunk)
            lines[chunk.rfind(b"\n", 0, place) + 1] = end
            place = chunk.find(word, end)
    return sorted(lines.items())


def _continuation(first: str, chunk: bytes, end: int) -> list[str]:
    """Up to two lines that continue ``first``, which ended at ``end``."""
    more: list[str] = []
    origin = process_of(first), level_of(first)
    for raw in chunk[end + 1 : end + 4096].split(b"\n")[:5]:
        line = clean(raw)
        body = body_of(line)
        if not body.strip():
            continue
        if (process_of(line), level_of(line)) != origin or len(more) == 2:
            break
        if _FRAME.match(body) or body.startswith(_CODE) or _is_generic(body):
            break
        more.append(body)
    return more


_TOLD = b"shutdown triggered"
_NOISE = (
    *(b"nanobind", b" - leaked", b" - ... skipped", b"resource_tracker", b"warnings.warn", b"Triton is installed"),
    *(b"[shutdown]", b"INFO:     Shutting down", b"INFO:     Waiting for", b"INFO:     Application shutdown"),
    *(b"INFO:     Finished server process", b"Parent process exited, terminating"),
)
"""What every end writes, for any reason."""


def _read_end(log: LogPieces, found: LogScan) -> None:
    size = min(CHUNK, log.size - log.begin)
    head, tail = log.pread(size, log.begin), log.pread(size, log.size - size)
    found.pids = frozenset(int(pid) for pid in _PID.findall(head) + _PID.findall(tail))
    lines = [line for line in tail.split(b"\n") if line.strip() and not any(noise in line for noise in _NOISE)]
    bodies = [body_of(clean(line)) for line in lines[-20:]]
    told = [body for body in bodies if not _FRAME.match(body) and not _is_generic(body)]
    found.last = tuple(told[-3:])
    if b"EngineDeadError" not in tail:
        found.told = next((body_of(clean(line)) for line in tail.split(b"\n") if _TOLD in line), "")
