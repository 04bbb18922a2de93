"""The built wheel: what is in it, and that it lives beside supervisord."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest
from import_graph import read_sources
from wheel import build_wheel, install, make_environment

BOTH = "import supervisor.options, acode_vllm.supervisor as ours; print(supervisor.options.__file__, ours.__file__)"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with our wheel and supervisord, and nothing that we depend on."""
    interpreter = make_environment(tmp_path_factory.mktemp("beside") / "venv")
    install(interpreter, str(wheel), "supervisor")
    return interpreter


@pytest.fixture(autouse=True)
def only_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)


@pytest.mark.timeout(180)
def test_the_wheel_holds_acode_vllm_alone_and_all_of_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {"acode_vllm", f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"}
    modules = {name.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for name in names if ".py" in name}
    assert read_sources().keys() <= modules
    assert "acode_vllm/py.typed" in names


@pytest.mark.timeout(180)
def test_our_supervisor_and_supervisord_import_in_one_environment(python: Path, tmp_path: Path) -> None:
    done = subprocess.run([python, "-c", BOTH], cwd=tmp_path, capture_output=True, text=True, check=True)
    theirs, ours = done.stdout.split()
    assert theirs.endswith("site-packages/supervisor/options.py")
    assert ours.endswith("site-packages/acode_vllm/supervisor/__init__.py")


PUBLIC = """
import acode_vllm, acode_vllm.supervisor, acode_vllm.testing
for public in (acode_vllm, acode_vllm.supervisor, acode_vllm.testing):
    for name in public.__all__:
        try:
            getattr(public, name)
        except ModuleNotFoundError as error:
            print(name, error.name)
"""
STAND_IN = """
from acode_vllm.testing import StandInServer
with StandInServer() as server:
    print(server.is_healthy())
"""


@pytest.mark.timeout(180)
def test_every_public_name_but_the_provider_imports_without_our_dependencies(python: Path, tmp_path: Path) -> None:
    done = subprocess.run([python, "-c", PUBLIC], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "VllmProvider requests\n"


@pytest.mark.timeout(180)
def test_the_stand_in_server_runs_without_our_dependencies(python: Path, tmp_path: Path) -> None:
    done = subprocess.run([python, "-c", STAND_IN], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


@pytest.mark.timeout(180)
def test_the_command_acode_is_installed_and_shows_its_help(python: Path, tmp_path: Path) -> None:
    command = [python.with_name("acode"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "ask" in done.stdout
    assert "providers" in done.stdout
