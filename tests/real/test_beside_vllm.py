"""The wheel in the environment that holds the real vLLM, and with it supervisord."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from real_service import RealVllm
from wheel import build_wheel, install, make_environment

BOTH = (
    "import supervisor.options, vllm, acode_vllm.supervisor as ours; print(supervisor.options.__file__, ours.__file__)"
)
SITE = "import sysconfig; print(sysconfig.get_path('purelib'))"


@pytest.fixture(autouse=True)
def only_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)


def test_supervisord_vllm_and_our_supervisor_import_in_one_environment(real_vllm: RealVllm, tmp_path: Path) -> None:
    theirs = real_vllm.python
    python = make_environment(tmp_path / "overlay", theirs)
    site, overlay = (
        Path(subprocess.run([p, "-c", SITE], capture_output=True, text=True, check=True).stdout.strip())
        for p in (theirs, python)
    )
    # An overlay whose path ends in vLLM's packages: what pip would see there, without changing what is there.
    (overlay / "vllm.pth").write_text(f"{site}\n", encoding="utf-8")
    install(python, str(build_wheel(tmp_path)))
    done = subprocess.run([python, "-c", BOTH], cwd=tmp_path, capture_output=True, text=True, check=True)
    supervisord, ours = map(Path, done.stdout.split()[-2:])
    assert supervisord == site / "supervisor" / "options.py"
    assert ours == overlay / "acode_vllm" / "supervisor" / "__init__.py"
