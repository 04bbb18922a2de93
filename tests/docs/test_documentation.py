"""The documentation builds without a warning, its links lead somewhere, and what is generated is all there is."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import conformance
import docs_pages
import docs_states
import pytest
from doc_blocks import pages
from import_graph import ROOT, read_sources

from acode_vllm._version import __version__
from acode_vllm.settings.table import TABLE
from acode_vllm.vocabulary.errors import CODES
from acode_vllm.vocabulary.events import Event
from acode_vllm.vocabulary.states import TRANSITIONS

LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(#[^)\s]*)?\)")
IN_REPOSITORY = [*pages(), ROOT / "CHANGELOG.md", *sorted((ROOT / "examples").glob("*.md"))]


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation as HTML, built as `make docs` does it: every warning, a dead link say, is an error."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", str(out / "trees")]
    command += [str(ROOT / "docs"), str(out / "html")]
    # Not in the repository's folder: in a source distribution the package there is not the one that is installed.
    done = subprocess.run(command, cwd=out, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return out / "html"


@pytest.mark.slow
@pytest.mark.timeout(360)
def test_it_builds_without_warnings_and_has_every_page(site: Path) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        assert (site / page.relative_to(ROOT / "docs")).with_suffix(".html").is_file(), page


@pytest.mark.slow
@pytest.mark.timeout(360)
def test_every_local_link_of_the_built_pages_leads_to_a_file(site: Path) -> None:
    dead = [
        f"{page.relative_to(site)} -> {target}"
        for page in site.rglob("*.html")
        for target in re.findall(r'(?:href|src)="([^"#]+)', page.read_text(encoding="utf-8"))
        if not re.match(r"[a-z]+:|//", target) and not (page.parent / target.partition("?")[0]).exists()
    ]
    assert dead == []


@pytest.mark.slow
@pytest.mark.timeout(360)
@pytest.mark.parametrize("name", ["configuration", "errors", "command", "environment", "events", "schemas", "api"])
def test_no_generated_block_is_left_in_a_reference_page(site: Path, name: str) -> None:
    text = (site / "reference" / f"{name}.html").read_text(encoding="utf-8")
    assert "{generated}" not in text
    assert "make docs" not in text


@pytest.mark.slow
@pytest.mark.timeout(360)
@pytest.mark.parametrize("package", ["acode_vllm", "acode_vllm.supervisor", "acode_vllm.testing"])
def test_every_public_name_is_in_the_reference(site: Path, package: str) -> None:
    public = set(importlib.import_module(package).__all__) - {"__version__", "Event"}
    api = (site / "reference" / "api.html").read_text(encoding="utf-8")
    described = {name for name in public if f'id="{package}.{name}"' in api}
    generated = docs_pages.PARTS["errors"]() + docs_pages.PARTS["error-tree"]() + docs_pages.PARTS["events"]()
    assert {name for name in public - described if not re.search(rf"\b{name}\b", generated)} == set()


@pytest.mark.parametrize("page", IN_REPOSITORY, ids=_name)
def test_every_link_between_files_of_the_repository_leads_to_one(page: Path) -> None:
    dead = [
        path + anchor
        for path, anchor in LINK.findall(page.read_text(encoding="utf-8"))
        if not (target := page.parent / path if path else page).exists()
        or (anchor and target.suffix == ".md" and anchor[1:] not in set(_anchors(target)))
    ]
    assert dead == []


def _anchors(page: Path) -> Iterator[str]:
    """The anchors of the headings, as forges and the built pages make them."""
    for heading in re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_command_key_variable_code_and_event_is_in_the_reference() -> None:
    command = docs_pages.PARTS["command"]()
    for words in ("ask", "providers start", "providers stop", "providers status", "config show", "doctor"):
        assert f"## `acode {words}`" in command
    assert "SUPPRESS" not in command
    settings, variables = docs_pages.PARTS["settings"](), docs_pages.PARTS["variables"]()
    assert [s.key for s in TABLE if f"`{s.key}`" not in settings] == []
    assert [s.variable for s in TABLE if s.variable and f"| `{s.variable}` |" not in variables] == []
    assert [code for code in CODES if f"| `{code}` |" not in docs_pages.PARTS["errors"]()] == []
    events = docs_pages.PARTS["events"]()
    assert [kind for kind in get_args(Event) if f"### `{kind.__name__}`" not in events] == []


def test_every_transition_is_drawn_and_in_the_table() -> None:
    picture, table = docs_states.states_svg(), docs_states.states_table()
    for (old, trigger), new in TRANSITIONS.items():
        assert f"<title>{old.value} - {trigger.value} -&gt; {new.value}</title>" in picture
    cells = [cell for row in table.splitlines()[2:] for cell in row.strip("|").split("|")[1:] if cell.strip()]
    assert len(cells) == len(TRANSITIONS)


def test_the_design_lists_every_room_below_the_rooms_that_it_imports() -> None:
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8").partition("\n## Rooms\n")[2]
    order = [
        f"acode_vllm/{room}".replace("acode_vllm/acode_vllm", "acode_vllm").replace("/", ".")
        for room in re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    ]
    sources = read_sources()
    rooms = {source.room for source in sources.values()} - {"acode_vllm", "acode_vllm.workers"}
    assert set(order) == {room for room in rooms if sources[room].path.name == "__init__.py"}
    wrong = [
        f"{source.module} imports {name}"
        for source in sources.values()
        for name in source.imports & sources.keys()
        if source.room in order
        and (other := sources[name].room) in order
        and order.index(other) > order.index(source.room)
    ]
    assert wrong == []


def test_an_unknown_generated_block_fails_the_build() -> None:
    with pytest.raises(KeyError):
        docs_pages.with_parts("```{generated} no-such-thing\n```\n")


def test_the_changelog_begins_with_the_version_of_the_package() -> None:
    found = re.search(r"^## (\d\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    assert found[1] == __version__


def test_the_recording_of_the_terminal_shows_every_code_or_says_why_not() -> None:
    text = (ROOT / "docs" / "terminal.md").read_text(encoding="utf-8")
    shown, _, missing = text.partition("Not shown here:")
    blocks = "".join(shown.split("```text")[1:])
    assert [code for code in CODES if code not in blocks and f"- {code}: " not in missing] == []


class TestConformance:
    PAGE = ROOT / "docs" / "conformance.md"

    def test_the_specification_has_all_its_ids(self) -> None:
        kinds = [spec_id.rpartition("-")[0] for spec_id in conformance.requirements()]
        assert {kind: kinds.count(kind) for kind in kinds} == {
            "FR": 51, "NFR": 19, "AC": 44, "UT": 10, "IT": 7, "PT": 4, "ACODE-VLM": 6
        }  # fmt: skip

    def test_no_test_names_an_id_that_is_not_in_the_specification(self) -> None:
        assert sorted(set(conformance.proofs()) - set(conformance.requirements())) == []

    def test_the_tests_that_the_page_names_exist(self) -> None:
        named = re.findall(r"`([a-z_/0-9]+\.py)::(test_\w+)`", self.PAGE.read_text(encoding="utf-8"))
        assert len(named) > 20
        missing = [
            f"{file}::{test}"
            for file, test in named
            if not (path := ROOT / "tests" / file).is_file() or f"def {test}(" not in path.read_text(encoding="utf-8")
        ]
        assert missing == []

    def test_every_security_consideration_and_failure_mode_has_a_row_with_a_test(self) -> None:
        text = self.PAGE.read_text(encoding="utf-8")
        for heading, rows in (("Security considerations", 10), ("Failure modes", 7)):
            section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
            table = [line for line in section.splitlines() if line.startswith("| ")][1:]
            assert len(table) == rows
            assert all("::test_" in line for line in table)

    def test_markers_on_tests_classes_and_files_are_found(self, tmp_path: Path) -> None:
        tests = tmp_path / "tests"
        tests.mkdir()
        (tests / "test_a.py").write_text(
            "pytestmark = [pytest.mark.spec('FR-001')]\n"
            "@pytest.mark.spec('FR-002', 'FR-003')\nclass TestB:\n"
            "    @pytest.mark.spec('FR-003')\n    def test_c(self): ...\n"
            "def test_d(): ...\ndef helper(): ...\n"
        )
        c, d = "tests/test_a.py::TestB::test_c", "tests/test_a.py::test_d"
        assert conformance.proofs(tests) == {"FR-001": [c, d], "FR-002": [c], "FR-003": [c]}

    def test_only_tests_that_passed_in_every_case_count(self, tmp_path: Path) -> None:
        report = tmp_path / "report.xml"
        report.write_text(
            "<testsuite>"
            '<testcase classname="tests.test_a.TestB" name="test_c[1]"/>'
            '<testcase classname="tests.test_a.TestB" name="test_c[2]"><failure/></testcase>'
            '<testcase classname="tests.test_a" name="test_d"/>'
            '<testcase classname="tests.test_a" name="test_e"><skipped/></testcase>'
            "</testsuite>"
        )
        found = {
            "FR-001": ["tests/test_a.py::TestB::test_c", "tests/test_a.py::test_d"],
            "FR-002": ["tests/test_a.py::TestB::test_c"],
            "FR-003": ["tests/test_a.py::test_e"],
        }
        assert conformance.counting_only(found, conformance.passed([report])) == {"FR-001": ["tests/test_a.py::test_d"]}
