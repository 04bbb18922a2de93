"""The bench itself: what it writes, and what it leaves alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
BENCH = """
import sys, types
from pathlib import Path
import benchmarks.__main__ as bench
sys.modules["benchmarks.nothing"] = types.SimpleNamespace(run=lambda bench: ())
bench.ROWS = ("nothing",)
bench.REPOSITORY = Path(sys.argv.pop(1))
bench.write_json = lambda *arguments: None
bench.write_document = lambda bench, page, *rest: page.write_text("new figures")  # needs the baselines installed
bench.main()
"""


@pytest.mark.parametrize(("options", "written"), [((), True), (("--quick",), False), (("--row", "nothing"), False)])
def test_only_a_whole_run_writes_the_page(tmp_path: Path, options: tuple[str, ...], written: bool) -> None:
    page = tmp_path / "docs" / "benchmarks.md"
    page.parent.mkdir()
    page.write_text("figures")
    command = [sys.executable, "-c", BENCH, str(tmp_path), "--build", str(tmp_path), *options]
    subprocess.run(command, cwd=REPOSITORY, check=True, timeout=50)
    assert page.read_text() == ("new figures" if written else "figures")
