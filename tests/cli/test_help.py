"""Help that teaches: every command explains itself, and each of its examples is one that works."""

from __future__ import annotations

import argparse
import re
import shlex

import pytest

from acode_vllm.cli.arguments import build_parser, parse
from acode_vllm.cli.commands.command_parser import all_commands

_BEFORE = re.compile(r"^(?:eval \"\$\(|.*\| |(?:[A-Z_]+=\S+ )+)?(?=acode )")


TREE = all_commands(build_parser())


@pytest.mark.parametrize("name", TREE)
class TestEveryCommand:
    def test_it_has_examples_in_its_help(self, name: str) -> None:
        parser = TREE[name]
        text = parser.format_help()
        examples = parser.examples
        assert examples
        for example in examples:
            command, _, comment = example.partition("  # ")
            assert f"  {command}" in text
            assert comment in text

    def test_its_examples_are_of_itself_and_can_be_typed(self, name: str) -> None:
        for example in TREE[name].examples:
            command = example.partition("  # ")[0]
            typed = re.split(r" > |\)\"", _BEFORE.sub("", command, count=1))[0]
            words = shlex.split(typed)
            assert typed.startswith("acode ")
            assert name == "acode" or typed.startswith(name)
            assert callable(parse(words[1:]).run)

    def test_what_it_wants_is_explained(self, name: str) -> None:
        parser = TREE[name]
        assert parser.description
        for action in parser._actions:
            assert action.help or isinstance(action, argparse._SubParsersAction), action.dest

    def test_its_help_fits_a_terminal(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "100")
        long = [line for line in TREE[name].format_help().splitlines() if len(line) > 110]
        assert long == []


def test_its_usage_shows_what_is_peculiar_to_a_command() -> None:
    usage = TREE["acode providers status"].format_usage()
    assert usage.startswith("usage: acode providers status ")
    assert "--json" in usage
    assert "--lifecycle-mode" not in usage


@pytest.mark.parametrize(
    ("typed", "near"),
    [(["providers", "strat", "vllm"], "start"), (["doktor"], "doctor"), (["completion", "fisch"], "fish")],
)
def test_a_wrong_word_is_answered_with_the_nearest_right_one(
    typed: list[str], near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(typed)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"did you mean {near}" in said
    assert "See: acode" in said


@pytest.mark.parametrize(
    ("typed", "usage", "hint"),
    [
        (["providers", "strat"], "usage: acode providers ", "did you mean start"),
        (["providers", "status", "vllm", "--jsn"], "usage: acode providers status ", "did you mean --json"),
        (["status", "--wach"], "usage: acode status ", "did you mean --watch"),
        (["config", "shwo"], "usage: acode config ", "did you mean show"),
        (["ask", "--max-tokns", "3", "x"], "usage: acode ask ", "did you mean --max-tokens"),
        (["run", "x"], "usage: acode ", 'use: acode ask "PROMPT"'),
        (["pull", "a/b"], "usage: acode ", "use: acode providers pull-model vllm MODEL"),
        (["events"], "usage: acode ", "use: acode providers events"),
        (["providers", "ps"], "usage: acode providers ", "use: acode providers status --all"),
    ],
)
def test_a_mistake_is_answered_by_the_command_that_was_typed(
    typed: list[str], usage: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(typed)
    said = capsys.readouterr().err
    assert said.startswith(usage)
    assert hint in said


@pytest.mark.parametrize(
    ("typed", "prompt"),
    [
        (["ask", "who", "are", "you"], "who are you"),
        (["ask", "--quiet", "who", "are", "--max-tokens", "5", "you"], "who are you"),
        (["ask", "who are", "you", "--quiet"], "who are you"),
        (["ask", "-"], "-"),
        (["ask", ""], ""),
        (["ask"], None),
    ],
)
def test_the_words_of_a_prompt_are_joined(typed: list[str], prompt: str | None) -> None:
    assert parse(typed).prompt == prompt


@pytest.mark.parametrize("name", ["start", "stop", "restart", "status", "logs", "history"])
def test_short_forms_are_the_same_as_what_they_are_short_for(name: str) -> None:
    long, short = parse(["providers", name, "--port", "8001", "vllm"]), parse([name, "--port", "8001"])
    assert vars(short).keys() | {"action"} == vars(long).keys()
    assert (long.provider_name, short.provider_name) == ("vllm", None)
    assert parse(["providers", name]).provider_name is None


def test_ps_is_the_status_of_every_service() -> None:
    found = parse(["ps", "--json"])
    assert (found.all, found.json, found.watch) == (True, True, False)


def test_each_operating_mode_is_explained() -> None:
    text = " ".join(TREE["acode"].format_help().split())
    for mode in ("local-only (", "airgapped (", "burst ("):
        assert mode in text


def test_a_word_that_is_like_none_is_answered_with_all(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["providers", "xyzzy", "vllm"])
    said = capsys.readouterr().err
    assert "'xyzzy' is none of: start, stop" in said
    assert "did you mean" not in said
