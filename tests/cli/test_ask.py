"""``acode ask`` where the answer breaks off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

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
