"""What the package promises as a whole: standard library only, small files, no circles, no polling."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import acode_vllm.supervisor as package

FILES = sorted(Path(package.__file__).parent.glob("*.py"))


def imports(file: Path) -> tuple[set[str], set[str]]:
    """Return the top-level modules that a file imports, and its siblings."""
    outside, siblings = set(), set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            outside |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1
            siblings.add(node.module or "")
        elif isinstance(node, ast.ImportFrom):
            outside.add((node.module or "").split(".")[0])
    return outside, siblings


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_is_small_and_imports_only_the_standard_library(file: Path) -> None:
    outside, _ = imports(file)
    assert outside <= sys.stdlib_module_names - {"asyncio"}
    assert len(file.read_text().splitlines()) <= 350
    assert "sleep" not in file.read_text().replace("needs no sleep", "")


def test_no_file_imports_itself_by_way_of_others() -> None:
    graph = {file.stem: imports(file)[1] for file in FILES if file.name != "__init__.py"}
    while graph:
        leaves = {name for name, needs in graph.items() if not needs & graph.keys()}
        assert leaves, f"a circle among {sorted(graph)}"
        graph = {name: needs for name, needs in graph.items() if name not in leaves}


def test_every_public_name_is_there_and_documented() -> None:
    for name in package.__all__:
        thing = getattr(package, name)
        if isinstance(thing, type) or callable(thing):
            assert thing.__doc__, name
