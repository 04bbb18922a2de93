"""Which of our files imports which, read from the source, imports inside functions included."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = {"acode_vllm": "acode_vllm", "acode_vllm.supervisor": "supervisor", "acode_vllm.workers": "workers"}
"""Import package and the folder that it is mapped from, as in setup.cfg."""


@dataclass(frozen=True)
class SourceFile:
    """One of our files: its import name and every module that it imports, ours and others'."""

    module: str
    path: Path
    imports: frozenset[str]

    @property
    def room(self) -> str:
        """The package that it is in; a file of the root package is a room of its own."""
        if self.path.name == "__init__.py":
            return self.module
        room = self.module.rpartition(".")[0]
        return self.module if room == "acode_vllm" else room

    @property
    def layer(self) -> str:
        """``supervisor``, ``workers``, ``cli`` or ``acode_vllm`` for what lies between."""
        part = self.module.split(".")[1] if "." in self.module else ""
        return part if part in ("supervisor", "workers", "cli") else "acode_vllm"


def read_sources() -> Mapping[str, SourceFile]:
    """Every file of the package by its import name."""
    paths = {
        _module(package, folder, path): path
        for package, folder in PACKAGES.items()
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not any(part.is_symlink() for part in path.parents if part.is_relative_to(ROOT))
    }
    return {module: SourceFile(module, path, _imports(module, path, paths.keys())) for module, path in paths.items()}


def reachable(sources: Mapping[str, SourceFile], module: str) -> set[str]:
    """Every file of ours that ``module`` imports, directly or through others."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        new = {name for name in sources[waiting.pop()].imports if name in sources} - found
        found |= new
        waiting += new
    return found


def _module(package: str, folder: str, path: Path) -> str:
    inside = path.relative_to(ROOT / folder).with_suffix("").parts
    return ".".join((package, *(part for part in inside if part != "__init__")))


def _imports(module: str, path: Path, ours: Iterable[str]) -> frozenset[str]:
    names: set[str] = set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join((*above, base)).rstrip(".")
            # `from acode_vllm.workers import messages` imports the file, `… import Worker` only the package.
            names.update(f"{base}.{a.name}" if f"{base}.{a.name}" in ours else base for a in node.names)
    return frozenset(names - {module})
