"""vLLM's log, read on from where the last look ended."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from acode_vllm.vocabulary.server_process import LogPlace
from acode_vllm.workers.vllm.log_file import (
    LINE_LIMIT,
    READ_LIMIT,
    LogReader,
    body_of,
    level_of,
    process_of,
    strip_process,
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "vllm.log"


def append(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)


def test_each_look_reads_only_what_is_new(log: Path) -> None:
    append(log, b"one\ntwo\n")
    reader = LogReader(log)
    assert reader.read() == ["one", "two"]
    assert reader.read() == []
    append(log, b"three\n")
    assert reader.read() == ["three"]


def test_reading_begins_at_the_offset(log: Path) -> None:
    append(log, b"of the previous server\nof this one\n")
    assert LogReader(log, LogPlace(len(b"of the previous server\n"))).read() == ["of this one"]


def test_a_log_that_is_not_there_yet_has_no_lines(log: Path) -> None:
    reader = LogReader(log)
    assert reader.read() == []
    append(log, b"first\n")
    assert reader.read() == ["first"]


def test_a_line_that_arrives_in_parts_is_told_whole_in_the_end(log: Path) -> None:
    reader = LogReader(log)
    append(log, b"Starting to lo")
    reader.read()
    append(log, b"ad model\n")
    assert reader.read() == ["Starting to load model"]


def test_a_character_cut_between_two_looks_is_whole_in_the_end(log: Path) -> None:
    reader = LogReader(log)
    text = "█ version".encode()
    append(log, text[:2])
    reader.read()
    append(log, text[2:] + b"\n")
    assert reader.read() == ["█ version"]


def test_each_state_of_a_progress_bar_is_told_while_it_stands(log: Path) -> None:
    reader = LogReader(log)
    append(log, b"\rshards:   0% | 0/2\rshards:  50% | 1/2")
    assert reader.read() == ["shards:   0% | 0/2", "shards:  50% | 1/2"]
    append(log, b"\rshards: 100% | 2/2\n")
    assert reader.read()[-1] == "shards: 100% | 2/2"


def test_a_truncated_log_is_read_from_its_beginning(log: Path) -> None:
    append(log, b"a long line before the rotation\n")
    reader = LogReader(log)
    reader.read()
    os.truncate(log, 0)
    append(log, b"after\n")
    assert reader.read() == ["after"]


def test_a_replaced_log_is_read_from_its_beginning(log: Path, tmp_path: Path) -> None:
    append(log, b"old\n")
    reader = LogReader(log)
    reader.read()
    new = tmp_path / "new"
    append(new, b"new, and longer than the old one\n")
    new.rename(log)
    assert reader.read() == ["new, and longer than the old one"]


def test_bytes_that_are_no_text_are_replaced(log: Path) -> None:
    append(log, b"a\xff\xfeb\0c\n")
    assert LogReader(log).read() == ["a\ufffd\ufffdbc"]


def test_colours_are_taken_off(log: Path) -> None:
    append(log, b"\x1b[0;36m(EngineCore pid=7)\x1b[0;0m INFO\n")
    assert LogReader(log).read() == ["(EngineCore pid=7) INFO"]


def test_a_line_without_end_is_cut_and_costs_no_memory(log: Path) -> None:
    append(log, b"x" * (3 * READ_LIMIT))
    reader = LogReader(log)
    for _ in range(3):
        (line,) = reader.read()
        assert len(line) == LINE_LIMIT


def test_a_log_that_may_not_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        LogReader(tmp_path).read()


@pytest.mark.parametrize(
    ("line", "process", "level", "body"),
    [
        ("(APIServer pid=9) INFO 11-22 12:30:24 [model.py:733] Resolved", "(APIServer pid=9)", "INFO", "Resolved"),
        ("(Worker_TP0_EP0 pid=9) ERROR 11-22 12:30:24 [w.py:1] Oops", "(Worker_TP0_EP0 pid=9)", "ERROR", "Oops"),
        ("(EngineCore_0 pid=9) Process EngineCore_0:", "(EngineCore_0 pid=9)", None, "Process EngineCore_0:"),
        ("(EngineCore_DP0 pid=9) ERROR 11-22 12:30:24 [c.py:1] x", "(EngineCore_DP0 pid=9)", "ERROR", "x"),
        ("INFO 05-01 10:00:00 [config.py:585] This model", "", "INFO", "This model"),
        ("ERROR 05-01 10:00:00 core.py:387] EngineCore", "", "ERROR", "EngineCore"),
        ("ValueError: no", "", None, "ValueError: no"),
        ("(a remark) stays", "", None, "(a remark) stays"),
    ],
)
def test_prefix_and_header_of_old_and_new_versions_are_known(
    line: str, process: str, level: str | None, body: str
) -> None:
    assert process_of(line) == process
    assert level_of(line) == level
    assert body_of(line) == body
    assert strip_process(line) == line.removeprefix(process).lstrip()
