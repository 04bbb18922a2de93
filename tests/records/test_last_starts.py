"""How long earlier starts took, by a history that may be torn or untrue."""

from __future__ import annotations

from pathlib import Path

import pytest

from acode_vllm.records.journal import Journal
from acode_vllm.records.last_starts import TAIL_BYTES
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.vocabulary.events import ServerBecameReady, WarningRaised
from acode_vllm.vocabulary.server_process import StartKind

PLAIN, FIRST, WARM = StartKind.PLAIN, StartKind.FIRST_WARM, StartKind.WARM


def ready(seconds: float, start: StartKind, model: str = "a/b") -> ServerBecameReady:
    return ServerBecameReady(1.0, 7, seconds, start, model)


@pytest.fixture
def folder(tmp_path: Path) -> ServiceFolder:
    return ServiceFolder(tmp_path)


def test_the_last_start_of_each_model_and_kind_is_known_to_the_next_owner(folder: ServiceFolder) -> None:
    starts = [ready(25.0, PLAIN), ready(14.0, FIRST), ready(5.0, WARM), ready(9.0, WARM, "c/d"), ready(4.0, WARM)]
    Journal(folder).note([*starts])
    found = Journal(folder).last_starts()
    assert found == {("a/b", PLAIN): 25.0, ("a/b", FIRST): 14.0, ("a/b", WARM): 4.0, ("c/d", WARM): 9.0}


@pytest.mark.parametrize(
    "line",
    [
        '{"at": 2, "event": "ready", "model": "a/b", "start": "warm", "secon',
        '{"at": 2, "event": "ready", "model": "a/b", "start": "warm", "seconds": "soon"}\n',
        '{"at": 2, "event": "ready", "model": "a/b", "start": "warm", "seconds": -1}\n',
        '{"at": 2, "event": "ready", "model": "a/b", "start": "warm", "seconds": NaN}\n',
        '{"at": 2, "event": "ready", "model": "a/b", "start": "lukewarm", "seconds": 1}\n',
        '{"at": 2, "event": "ready", "pid": 7, "seconds": 1, "warm": true}\n',
        "[]\n",
        "\x00\xff\n",
    ],
)
def test_an_entry_that_is_torn_or_untrue_is_skipped(folder: ServiceFolder, line: str) -> None:
    Journal(folder).note([ready(4.0, WARM)])
    with open(folder.history, "a", encoding="utf-8") as file:
        file.write(line)
    assert Journal(folder).last_starts() == {("a/b", WARM): 4.0}


def test_a_history_that_cannot_be_read_costs_the_estimates_alone(folder: ServiceFolder) -> None:
    folder.history.mkdir()
    assert Journal(folder).last_starts() == {}


def test_only_the_end_of_a_long_history_is_read(folder: ServiceFolder) -> None:
    Journal(folder).note([ready(4.0, WARM), *[WarningRaised(2.0, "x" * 1000)] * (TAIL_BYTES // 1000)])
    assert Journal(folder).last_starts() == {}
