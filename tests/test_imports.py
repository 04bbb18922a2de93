"""Who may import whom, and what an import costs."""

from __future__ import annotations

import ast
import functools
import importlib
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from import_graph import SourceFile, reachable, read_sources

sources = functools.cache(read_sources)
HEAVY = ("requests", "urllib3", "yaml", "psutil", "pynvml", "huggingface_hub", "dataclasses_json", "colorlog")


def _of(layer: str) -> list[SourceFile]:
    return [source for source in sources().values() if source.layer == layer]


def _loaded_by(program: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after ``program``."""
    show = f"{program}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_every_file_is_found() -> None:
    assert len(sources()) > 50
    assert all(_of(layer) for layer in ("supervisor", "workers", "acode_vllm", "cli"))


def test_the_supervisor_imports_only_itself_and_the_standard_library() -> None:
    allowed = sys.stdlib_module_names | {"__future__"}
    wrong = [
        f"{source.module} imports {name}"
        for source in _of("supervisor")
        for name in source.imports
        if name.partition(".")[0] not in allowed and not name.startswith("acode_vllm.supervisor")
    ]
    assert wrong == []


def _rooms() -> dict[str, set[str]]:
    """Every room, and the rooms that its files import."""
    found: dict[str, set[str]] = {source.room: set() for source in sources().values()}
    for source in sources().values():
        found[source.room] |= {sources()[name].room for name in source.imports & sources().keys()}
    return {room: others - {room} for room, others in found.items()}


def _may_import(room: str) -> list[str]:
    """What the docstring of the room allows, as prefixes of module names."""
    module = next(source for source in sources().values() if source.module == room)
    docstring = ast.get_docstring(ast.parse(module.path.read_text(encoding="utf-8"))) or ""
    _, _, allowed = " ".join(docstring.split()).partition("May import: ")
    return [name.strip() for name in allowed.rstrip(".").split(",")]


ROOMS = sorted(
    {source.module for source in read_sources().values() if source.path.name == "__init__.py"}
    - {"acode_vllm", "acode_vllm.supervisor", "acode_vllm.workers"}
)
ANYTHING = {
    "acode_vllm.cli": "",
    "acode_vllm.cli.commands": "acode_vllm.cli",
}
"""Rooms that may import everything, but for one."""


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_what_its_docstring_allows(room: str) -> None:
    allowed = _may_import(room)
    assert allowed != [""], f"the docstring of {room} does not say what it may import"
    if room in ANYTHING:
        assert ANYTHING[room] not in _rooms()[room]
        return
    leaf = {"acode_vllm._version"}
    wrong = [
        other
        for other in _rooms()[room] - leaf
        if not any(other == name or other.startswith(f"{name}.") for name in allowed)
    ]
    assert wrong == []


def test_there_is_no_circle_between_rooms() -> None:
    rooms = {room: others for room, others in _rooms().items() if room != "acode_vllm"}  # hands names out lazily
    while rooms:
        leaves = {room for room, others in rooms.items() if not others & rooms.keys()}
        assert leaves, f"a circle among {sorted(rooms)}"
        rooms = {room: others for room, others in rooms.items() if room not in leaves}


def test_no_room_holds_more_than_20_files() -> None:
    count = Counter(source.path.parent for source in sources().values())
    assert {str(folder): number for folder, number in count.items() if number > 20} == {}


def test_no_file_is_longer_than_350_lines() -> None:
    lengths = {s.module: len(s.path.read_text(encoding="utf-8").splitlines()) for s in sources().values()}
    assert {module: lines for module, lines in lengths.items() if lines > 350} == {}


def test_nothing_but_the_command_imports_the_command() -> None:
    wrong = [
        f"{source.module} imports {name}"
        for source in sources().values()
        for name in source.imports & sources().keys()
        if source.layer != "cli" and sources()[name].layer == "cli"
    ]
    assert wrong == []


def test_there_is_no_circle_between_files() -> None:
    package = "acode_vllm"  # its names are handed out lazily: importing a file of it imports nothing else of it
    reached = {module: reachable(sources(), module) for module in sources()}
    circles = {
        tuple(sorted({module} | {other for other in reached[module] if module in reached[other]}))
        for module in reached.keys() - {package}
        if module in reached[module]
    }
    assert circles == set()


def test_no_file_imports_the_lazy_package_itself() -> None:
    assert [s.module for s in sources().values() if "acode_vllm" in s.imports] == []


def test_no_file_imports_asyncio() -> None:
    wrong = ("asyncio", "anyio", "trio")
    assert [s.module for s in sources().values() for name in s.imports if name.partition(".")[0] in wrong] == []


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not _loaded_by("import acode_vllm").intersection(HEAVY)


@pytest.mark.parametrize("module", ["cli.main", "cli.commands.providers", "records.recorded", "records.service_folder"])
def test_what_a_light_command_imports_loads_nothing_heavy(module: str) -> None:
    assert not _loaded_by(f"import acode_vllm.{module}").intersection({*HEAVY, "asyncio"})


def test_the_main_job_is_imported_without_asyncio() -> None:
    program = (
        "import acode_vllm\nfor name in acode_vllm.__all__: getattr(acode_vllm, name)\nimport acode_vllm.service.tree"
    )
    assert "asyncio" not in _loaded_by(program)


def test_the_supervisor_can_be_imported_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, acode_vllm.supervisor; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    ours = {name for name in done.stdout.split() if name.startswith("acode_vllm")}
    assert {name for name in ours if not name.startswith("acode_vllm.supervisor")} <= {
        "acode_vllm",
        "acode_vllm._version",
    }


PUBLIC = ("acode_vllm", "acode_vllm.supervisor", "acode_vllm.testing")


def test_examples_and_documents_import_public_names_alone() -> None:
    root = Path(__file__).resolve().parents[1]
    texts = [path.read_text(encoding="utf-8") for path in (root / "examples").glob("*.py")]
    pages = [root / "README.md", *(root / "docs").rglob("*.md")]
    for page in pages:
        texts += re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    found = [match for text in texts for match in re.findall(r"^\s*(?:from|import) (acode_vllm[.\w]*)", text, re.M)]
    assert len(found) > 10
    assert [name for name in found if name not in PUBLIC] == []


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_is_handed_out_and_documented(package: str) -> None:
    public = importlib.import_module(package)
    for name in public.__all__:
        found = getattr(public, name)
        assert not isinstance(found, type) or found.__doc__, name


def test_the_stand_in_server_needs_the_standard_library_alone() -> None:
    loaded = _loaded_by("import acode_vllm.testing.api_server, acode_vllm.testing.stand_in")
    assert loaded <= sys.stdlib_module_names | {"acode_vllm", "__main__", "__mp_main__"} | _loaded_by("")


def test_the_lazy_package_lists_its_names_in_order() -> None:
    import acode_vllm

    assert sorted(acode_vllm.__all__) == acode_vllm.__all__ == dir(acode_vllm)
