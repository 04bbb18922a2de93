"""A keeper that does not come up is ended and reaped, and the error shows why: whatever it says, or does not say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from acode_vllm.keeper import detached_keeper
from acode_vllm.keeper.detached_keeper import start_detached_keeper
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.vocabulary.errors import VllmServiceError
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.vocabulary.wanted import Wanted

PROBLEM = '{"code": "ACODE-VLM-009", "message": "No."}'


@pytest.mark.parametrize(
    ("program", "code", "words"),
    [
        pytest.param(f"echo '{PROBLEM}'; exec sleep 60", "ACODE-VLM-009", "No.", id="it says why and stays"),
        pytest.param("exec sleep 60", "ACODE-VLM-031", "did not say within 0.5 s", id="it says nothing"),
        pytest.param("exec tr -d '\\n' < /dev/zero", "ACODE-VLM-031", "did not say within", id="a word without end"),
        pytest.param("exit 3", "ACODE-VLM-031", "exit code 3", id="it ends without a word"),
    ],
)
def test_one_that_does_not_come_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, code: str, words: str
) -> None:
    error = failed_start(tmp_path, monkeypatch, program)
    assert error.code == code
    assert words in str(error)


def test_the_end_of_a_log_of_any_length_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detached_keeper, "_TAIL_BYTES", 100)
    error = failed_start(tmp_path, monkeypatch, "seq 1 1000 >&2; exit 1")
    assert error.problem.evidence == ("996", "997", "998", "999", "1000")


def failed_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> VllmServiceError:
    keeper = tmp_path / "keeper"
    keeper.write_text(f"#!/bin/sh\n{program}\n")
    keeper.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(keeper))
    monkeypatch.setattr(detached_keeper, "START_SECONDS", 0.5)
    monkeypatch.setattr(detached_keeper, "END_SECONDS", 0.1)
    folder = ServiceFolder(tmp_path / "service")
    with pytest.raises(VllmServiceError) as caught:
        start_detached_keeper(folder, Wanted("org/model", VllmLifecycleOptions(), {}))
    return caught.value
