"""What a rotation cut is not packed: the half of a secret would not be recognised."""

from __future__ import annotations

from pathlib import Path

from acode_vllm.report.bug_report import redacted_file
from acode_vllm.vocabulary.redaction import Redactor


def test_a_secret_that_a_rotation_cut_is_in_neither_part(tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    log.with_name("vllm.log.1").write_text("cut\nwhole\nkey sesame")
    log.write_text("-open and more\nthe last")
    redactor = Redactor(("sesame-open",))
    copy, rest = redacted_file(log.with_name("vllm.log.1"), redactor), redacted_file(log, redactor)
    assert copy is not None
    assert rest is not None
    assert b"whole\n" in copy
    assert b"the last" in rest
    assert b"sesame" not in copy + rest
    assert b"open" not in copy + rest
