"""Every example of README and documentation is run, on the stand-in server, or says why it is not."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from doc_blocks import Block, Reader, blocks, matches, pages
from import_graph import ROOT
from service_fixtures import write_model
from standin import COMMAND, free_port

from acode_vllm.config.config import load

MODELS = ("meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-13b-hf")
RUN = ("python", "console")
CHECKED = ("yaml",)
NOT_CODE = ("", "text", "{toctree}", "{eval-rst}", "{include} ../CONTRIBUTING.md", "{include} ../CHANGELOG.md")
ALL = [block for page in pages() for block in blocks(page)]
RUNNABLE = [page for page in pages() if any(block.kind in RUN for block in blocks(page))]


def _name(value: Path | Block) -> str:
    return f"{value.page}:{value.line}" if isinstance(value, Block) else value.relative_to(ROOT).as_posix()


@pytest.fixture
def reader(own_world: Path) -> Iterator[Reader]:
    """Somebody with a `vllm` on PATH, which is the stand-in, and two models in the cache."""
    programs = own_world / "bin"
    programs.mkdir()
    (programs / "vllm").write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    (programs / "vllm").chmod(0o755)
    for model in MODELS:
        repository = own_world / "hf" / "hub" / f"models--{model.replace('/', '--')}"
        write_model(repository / "snapshots" / "0123abcd")
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("0123abcd")
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    reader = Reader(
        own_world, {**os.environ, "PATH": path, "HF_HOME": str(own_world / "hf")}, free_port(), answers=False
    )
    yield reader
    reader.stop()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", RUNNABLE, ids=_name)
def test_the_examples_of_a_page_do_what_it_shows(page: Path, reader: Reader) -> None:
    assert reader.follow(page) > 0


@pytest.mark.parametrize("block", ALL, ids=_name)
def test_what_shows_code_is_run_or_says_why_not(block: Block) -> None:
    if block.kind in (*RUN, *CHECKED):
        assert block.reason == "", "it is run all the same"
    elif block.kind not in NOT_CODE and not block.kind.startswith("{generated}"):
        assert block.reason, f"{block.kind}: make it console or python, or say why it is not run"


@pytest.mark.parametrize("block", [block for block in ALL if block.kind in CHECKED], ids=_name)
def test_a_configuration_that_is_shown_is_valid(block: Block, own_world: Path) -> None:
    file = own_world / "shown.yml"
    file.write_text(block.text)
    assert yaml.safe_load(block.text)
    load({"config": str(file)}, environ=os.environ, cwd=own_world, home=own_world / "home")


def test_pages_with_examples_are_found() -> None:
    assert {"README.md", "docs/quickstart.md", "docs/guides/embedding.md"} <= {_name(page) for page in RUNNABLE}


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        (["PID 56789"], ["PID 7"], True),
        (["took 1.5 s"], ["took 22 s"], True),
        (["12 seconds ago"], ["1 second ago"], True),
        (["a … z"], ["a b c z"], True),
        (["a", "…", "z"], ["a", "b", "c", "z"], True),
        (["a", "…"], ["a"], True),
        (["PID 56789"], ["PID none"], False),
        (["a"], ["a", "b"], False),
        (["a", "b"], ["a"], False),
        (["a.c"], ["abc"], False),
    ],
)
def test_figures_and_ellipses_match_and_nothing_else(shown: list[str], printed: list[str], same: bool) -> None:
    assert matches(shown, printed, answers=True) is same


def test_an_example_that_prints_something_else_fails(reader: Reader, own_world: Path) -> None:
    page = own_world / "page.md"
    page.write_text("```console\n$ echo yes\nyes\n$ echo yes\nno\n```\n")
    with pytest.raises(AssertionError, match="shown: \\['no'\\]"):
        reader.follow(page)
