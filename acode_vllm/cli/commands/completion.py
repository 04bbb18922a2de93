"""``acode completion``: a shell's completion script, made from the parser itself, so never out of date."""

from __future__ import annotations

import argparse

from acode_vllm.cli.commands.command_parser import all_commands, words_of


def completion_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The completion script of ``shell`` for ``parser`` and all commands below it. Marks the parser up for it."""
    import shtab

    for action in all_actions(parser):
        if words := words_of(action):
            action.choices = words
        elif action.metavar == "FILE":
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks for it
    return shtab.complete(parser, shell).rstrip("\n")


def all_actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The arguments of a parser and of every command below it."""
    return [action for command in all_commands(parser).values() for action in command._actions]  # noqa: SLF001
