"""The example, and the guide's extract of it, do what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "supervisor_tree.py"
GUIDE = ROOT / "docs" / "supervisor.md"


def test_the_example_counts_on_from_a_fresh_state_after_its_crash() -> None:
    ran = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, timeout=60, check=True)
    first, second, crash, fresh = ran.stdout.splitlines()
    assert (first, second, fresh) == ("1: counted to 10", "2: counted to 15", "5: counted to 2")
    assert "ZeroDivisionError" in crash


def test_the_guides_extract_runs_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    exec(compile(code, str(GUIDE), "exec"), {})
    assert capsys.readouterr().out == "2\n"
