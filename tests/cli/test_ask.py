"""``acode ask`` where the answer breaks off."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from keepers import Acode, end
from service_fixtures import model, port

from acode_vllm.records.record import load_record

__all__ = ["model", "port"]


@pytest.fixture
def acode(tmp_path: Path, model: str, port: int) -> Iterator[Acode]:
    command = Acode(tmp_path, model, port)
    yield command
    command.run("providers", "stop", "vllm")
    record = load_record(command.folder.record)
    assert record is not None
    end(record.owner.pid)


def test_an_answer_that_breaks_off_is_shown_so_far_and_the_error_on_lines_of_its_own(acode: Acode) -> None:
    acode.write({"crash_after_tokens": 6, "token_seconds": 0.02, "exit_delay": 0.1})
    done = acode.run("ask", "a story of many words")
    assert done.returncode != 0
    assert done.stdout.startswith("I am ")
    assert done.stdout.endswith("\n")
    assert done.stderr.splitlines()[-2].startswith("ACODE-VLM-020")


def wait_for_connection(port: int) -> None:
    """Return when the server on the port holds a connection for longer than a check does."""
    deadline, since = time.monotonic() + 20, 0.0
    while time.monotonic() < deadline:
        held = [c for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port and c.raddr]
        since = (since or time.monotonic()) if held else 0.0
        if since and time.monotonic() - since > 0.5:
            return
    raise AssertionError("nobody asks")


@pytest.mark.slow
def test_a_stop_is_not_undone_by_an_ask_that_waits_for_its_answer(acode: Acode, port: int) -> None:
    acode.write({"delays": {"/v1/chat/completions": 30.0}})
    assert acode.run("providers", "start", "vllm").returncode == 0
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(acode.run, "ask", "who are you?")
        wait_for_connection(port)
        assert acode.run("providers", "stop", "vllm").returncode == 0
        done = asked.result(60)
    assert done.returncode == 1
    assert "ACODE-VLM-022" in done.stderr
    assert '"state": "Stopped"' in acode.run("providers", "status", "vllm", "--json").stdout
