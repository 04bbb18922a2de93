"""The lists of breakages: every requirement has one that fits the files as they are. `make breakages` applies them."""

from __future__ import annotations

from pathlib import Path

import breakages
import pytest
from breakages import Breakage

FITS = Breakage(("FR-001",), "product.py", "a = 1", "a = 2", ("tests/test_a.py::test_b",), "", "one.yml 1")


def test_every_requirement_has_a_breakage_that_fits_the_files_and_tests_that_name_it() -> None:
    assert breakages.mistakes(breakages.read_lists()) == []


@pytest.mark.parametrize(
    ("change", "mistake"),
    [
        ({}, None),
        ({"find": "b = 1"}, "occurs 0 times"),
        ({"find": "="}, "occurs 2 times"),
        ({"replace": "a = 1"}, "changes nothing"),
        ({"file": "gone.py"}, "occurs 0 times"),
        ({"replace": "a = self.gone"}, "knows no self.gone"),
        ({"ids": ("FR-001", "FR-002")}, "none of its tests names FR-002"),
        ({"tests": ("tests/test_a.py::test_b", "tests/test_a.py::test_gone")}, "does not exist"),
    ],
)
def test_what_does_not_fit_is_found(change: dict[str, object], mistake: str | None, tmp_path: Path) -> None:
    (tmp_path / "product.py").write_text("a = 1\nc = 2\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text('@pytest.mark.spec("FR-001")\ndef test_b(): ...\n')
    entry = Breakage(**{**vars(FITS), **change})  # type: ignore[arg-type]
    found = [line for line in breakages.mistakes([entry], tmp_path) if line.startswith("one.yml 1: ")]
    assert (mistake or "") in "".join(found)
    assert bool(found) is (mistake is not None)


def test_a_requirement_without_a_breakage_is_found(tmp_path: Path) -> None:
    assert "FR-002 has no breakage" in breakages.mistakes([FITS], tmp_path)


def test_a_list_with_a_key_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.yml").write_text("- {ids: FR-001, file: a, find: b, replace: c, test: d, because: e}\n")
    with pytest.raises(ValueError, match=r"one\.yml 1: has"):
        breakages.read_lists(tmp_path)
