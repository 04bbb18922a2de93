"""A log that was rotated just before, or after, the crash that is to be explained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from recordings import diagnosed, recordings

from acode_vllm.vocabulary.server_process import LogPlace
from acode_vllm.workers.diagnosis.diagnosis import diagnose
from acode_vllm.workers.log.pieces import place_in
from acode_vllm.workers.log.rotation import Rotation


@pytest.mark.parametrize("rotations", [1, 3])
@pytest.mark.parametrize("limit", [4096, 12288])
def test_its_cause_is_found_over_the_border(tmp_path: Path, limit: int, rotations: int) -> None:
    log = tmp_path / "vllm.log"
    log.touch()
    rotation = Rotation(log, limit, 20)
    for name, recording in recordings().items():
        if not 0 < recording.path.stat().st_size < 3 * limit * rotations:
            continue
        for old in (log, *tmp_path.glob("vllm.log.*")):
            old.unlink()
        log.write_bytes(b"of the server before\n" * 5)
        begin = place_in(log, at_end=True)
        content = recording.path.read_bytes()
        part = len(content) // rotations + 1
        for start in range(0, len(content), part):
            with log.open("ab") as file:
                file.write(content[start : start + part])
            rotation.look()
        found = diagnose(
            log, begin, recording.exit, model=recording.model, port=recording.port, kernel=lambda pids, before: ""
        )
        assert replace(found, log_path=None) == replace(diagnosed(name), log_path=None), name


def test_of_a_log_whose_beginning_is_no_longer_kept_the_rest_is_read(tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    recording = recordings()["report_worker_hangs"]
    rotation = Rotation(log, 4096, 1)
    for _ in range(5):
        with log.open("ab") as file:
            file.write(b"(APIServer pid=1) INFO 11-20 10:00:03 [a.py:1] nothing to tell\n" * 100)
        rotation.look()
    with log.open("ab") as file:
        file.write(recording.path.read_bytes())
    gone = LogPlace(17, "1-1")
    assert diagnose(log, gone, recording.exit, model="a/b", port=1).code == diagnosed("report_worker_hangs").code
