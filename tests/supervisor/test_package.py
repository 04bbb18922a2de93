"""What the package promises as a whole: standard library only, small files, no polling."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import acode_vllm.supervisor as package

FOLDER = Path(package.__file__).parent
FILES = sorted(FOLDER.rglob("*.py"))


def imports(file: Path) -> set[str]:
    """The top-level modules of others that a file imports."""
    outside = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            outside |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            outside.add((node.module or "").split(".")[0])
    return outside


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(FOLDER)))
def test_a_file_is_small_and_imports_only_the_standard_library(file: Path) -> None:
    assert imports(file) <= sys.stdlib_module_names - {"asyncio"}
    assert len(file.read_text().splitlines()) <= 350
    assert "sleep" not in file.read_text().replace("needs no sleep", "")


def test_every_public_name_is_there_and_documented() -> None:
    for name in package.__all__:
        thing = getattr(package, name)
        if isinstance(thing, type) or callable(thing):
            assert thing.__doc__, name
