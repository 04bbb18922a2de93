"""Which test proves which requirement: every ID of the specification, and the tests that name it.

    python tools/conformance.py                              # who is named by no test; exit code 1 where one is
    python tools/conformance.py --junit .build/reports/*.xml   # only tests that ran and passed in all their cases

A test names what it proves with the marker ``spec`` on itself, its class or its file (``pytestmark``). The IDs and
their texts are in ``docs/specification.tsv``.
"""

from __future__ import annotations

import argparse
import ast
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SPECIFICATION = ROOT / "docs" / "specification.tsv"

Proofs = Mapping[str, Sequence[str]]
"""ID → the tests that name it, as pytest names them."""


def requirements(path: Path = SPECIFICATION) -> dict[str, str]:
    """ID → what it requires, in the order of the specification."""
    rows = (line.split("\t", 1) for line in path.read_text(encoding="utf-8").splitlines())
    return {row[0]: row[1] for row in rows}


def proofs(tests: Path = ROOT / "tests") -> dict[str, list[str]]:
    """The tests that name an ID, as the files stand; nothing is run or imported."""
    found: dict[str, list[str]] = {}
    for path in sorted(tests.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        for test, ids in _tests(tree, path.relative_to(tests.parent).as_posix(), ()):
            for spec_id in dict.fromkeys(ids):
                found.setdefault(spec_id, []).append(test)
    return found


def _tests(
    node: ast.Module | ast.ClassDef, name: str, inherited: tuple[str, ...]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each test below ``node`` with the IDs that it, its class or its file names."""
    for child in node.body:
        if isinstance(child, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == "pytestmark" for t in child.targets
        ):
            inherited += _named(child.value)
    for child in node.body:
        if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
            ids = inherited + tuple(spec_id for decorator in child.decorator_list for spec_id in _named(decorator))
            if isinstance(child, ast.ClassDef):
                yield from _tests(child, f"{name}::{child.name}", ids)
            elif child.name.startswith("test"):
                yield f"{name}::{child.name}", ids


def _named(node: ast.expr) -> tuple[str, ...]:
    """The texts in every ``….spec(…)`` below ``node``."""
    return tuple(
        text.value
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "spec"
        for argument in call.args
        for text in ast.walk(argument)
        if isinstance(text, ast.Constant) and isinstance(text.value, str)
    )


def passed(reports: Sequence[Path]) -> set[str]:
    """The tests that ran in these JUnit reports and passed in each of their cases, as ``dotted.name::test``."""
    good: set[str] = set()
    bad: set[str] = set()
    for report in reports:
        for case in ET.parse(report).iter("testcase"):
            name = f"{case.get('classname')}::{(case.get('name') or '').partition('[')[0]}"
            failed = any(case.find(tag) is not None for tag in ("failure", "error", "skipped"))
            (bad if failed else good).add(name)
    return good - bad


def in_report(test: str) -> str:
    """``tests/a/test_b.py::TestC::test_d`` as a JUnit report names it: ``tests.a.test_b.TestC::test_d``."""
    path, _, rest = test.partition(".py::")
    *classes, name = rest.split("::")
    return ".".join([path.replace("/", "."), *classes]) + f"::{name}"


def counting_only(found: Proofs, good: set[str]) -> dict[str, list[str]]:
    """The proofs by tests that are in ``good``."""
    kept = {spec_id: [test for test in tests if in_report(test) in good] for spec_id, tests in found.items()}
    return {spec_id: tests for spec_id, tests in kept.items() if tests}


def conformance_markdown() -> str:
    """The table of requirements for the documentation."""
    found = proofs()
    rows = ["| ID | Requirement | Proved by |", "|---|---|---|"]
    for spec_id, text in requirements().items():
        tests = "<br>".join(f"`{test.removeprefix('tests/')}`" for test in found.get(spec_id, ())) or "no test"
        rows.append(f"| {spec_id} | {text.replace('<', '&lt;').replace('|', '&#124;')} | {tests} |")
    return "\n".join(rows) + "\n"


def main() -> int:
    """0 where every ID is named by a test that counts."""
    parser = argparse.ArgumentParser(description="Which IDs of the specification are named by a test.")
    parser.add_argument("--junit", type=Path, nargs="+", metavar="REPORT", help="count only tests that passed in these")
    reports = parser.parse_args().junit
    ids, found = requirements(), proofs()
    if reports:
        found = counting_only(found, passed(reports))
    missing = [spec_id for spec_id in ids if spec_id not in found]
    unknown = sorted(set(found) - set(ids))
    for spec_id in missing:
        print(f"no test names {spec_id}: {ids[spec_id]}")
    for spec_id in unknown:
        print(f"not in the specification: {spec_id}, named by {', '.join(found[spec_id])}")
    counted = f"that ran and passed in {', '.join(map(str, reports))}" if reports else "of the files as they stand"
    print(f"{len(ids) - len(missing)} of {len(ids)} IDs of the specification are named by a test {counted}")
    return 1 if missing or unknown else 0


if __name__ == "__main__":
    sys.exit(main())
