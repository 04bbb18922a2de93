"""The search for the cause: after what the server survived, and bounded whatever the log's size."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.server_process import LogPlace
from acode_vllm.workers.diagnosis.diagnosis import diagnose
from acode_vllm.workers.diagnosis.log_scan import scan
from acode_vllm.workers.messages.process_messages import ProcessExit

OOM = (
    "(EngineCore pid=7) ERROR 11-22 12:00:00 [core.py:9] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate"
    " 20.00 MiB. GPU 0 has a total capacity of 23.69 GiB of which 12.06 MiB is free. Including\n"
)
UP = "INFO:     Application startup complete.\n"
ANSWERED = 'INFO:     127.0.0.1:1 - "POST /v1/completions HTTP/1.1" 200 OK\n'
CHECKED = 'INFO:     127.0.0.1:1 - "GET /health HTTP/1.1" 200 OK\n'
MISSING = "ModuleNotFoundError: No module named 'optional_thing'\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "vllm.log"


def find(log: Path) -> Problem:
    return diagnose(log, LogPlace(), ProcessExit(code=1), model="a/b", port=8000, kernel=lambda pids, before: "")


def test_the_first_specific_cause_wins_over_later_ones(log: Path) -> None:
    log.write_text(OOM + MISSING)
    assert find(log).code == "ACODE-VLM-006"
    log.write_text(MISSING + OOM)
    assert find(log).code == "ACODE-VLM-009"


def test_a_specific_cause_wins_over_an_earlier_vague_one(log: Path) -> None:
    log.write_text("httpx.ConnectError: [Errno 111] Connection refused\n" + OOM)
    assert find(log).code == "ACODE-VLM-006"


def test_what_a_start_survived_is_not_why_the_server_died(log: Path) -> None:
    log.write_text(MISSING + UP + OOM)
    assert find(log).code == "ACODE-VLM-006"


def test_what_happened_before_the_last_answer_is_not_the_cause(log: Path) -> None:
    log.write_text(UP + OOM + ANSWERED * 3 + MISSING)
    assert find(log).code == "ACODE-VLM-009"


def test_health_checks_prove_no_life(log: Path) -> None:
    log.write_text(UP + ANSWERED + OOM + CHECKED)
    assert find(log).code == "ACODE-VLM-006"


def test_memory_that_ran_out_while_serving_can_be_mended_by_a_restart(log: Path) -> None:
    log.write_text(UP + OOM)
    assert find(log).retryable
    log.write_text(OOM)
    assert not find(log).retryable


def test_warnings_and_code_in_tracebacks_are_no_causes(log: Path) -> None:
    log.write_text(
        "(APIServer pid=1) WARNING 11-22 12:30:11 [x.py:255] errors like `OSError: [Errno 24] Too many open files`\n"
        '    raise OSError("We couldn\'t connect to the hub, local_files_only: out of memory. Error")\n'
    )
    assert find(log).code == "ACODE-VLM-015"


@pytest.mark.slow
@pytest.mark.parametrize("cause", ["at the beginning", "at the end"])
def test_a_cause_among_50_megabytes_is_found_in_a_second_and_20_megabytes(log: Path, cause: str) -> None:
    noise = "".join(
        f"(EngineCore pid=7) ERROR 11-22 12:00:00 [core.py:{n}] OddError: {n * 7919:x} failed, no connection found\n"
        for n in range(5000)
    )
    with log.open("w") as file:
        file.write(OOM if cause == "at the beginning" else "")
        while file.tell() < 50_000_000:
            file.write(noise)
        file.write(OOM if cause == "at the end" else "")
    begun = time.process_time()
    assert find(log).code == "ACODE-VLM-006"
    assert time.process_time() - begun < 1.0
    tracemalloc.start()
    try:
        find(log)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_served_log_of_50_megabytes_is_searched_from_its_end(log: Path) -> None:
    with log.open("w") as file:
        while file.tell() < 50_000_000:
            file.write((ANSWERED + CHECKED) * 5000)
        file.write(OOM)
    begun = time.process_time()
    assert find(log).code == "ACODE-VLM-006"
    assert time.process_time() - begun < 1.0


def test_one_line_of_megabytes_breaks_nothing(log: Path) -> None:
    log.write_text("x" * 3_000_000 + "\n" + OOM + "y" * 3_000_000)
    assert find(log).code == "ACODE-VLM-006"


def test_the_processes_that_wrote_are_known(log: Path) -> None:
    log.write_text("(APIServer pid=11) a\n(EngineCore_DP0 pid=12) b\n(Worker_TP1 pid=13) c\n")
    assert scan(log, LogPlace()).pids == {11, 12, 13}
