"""The reference of the command, from argparse itself: every command with its usage, options and examples."""
# ruff: noqa: SLF001 - argparse has no public way to walk a parser

from __future__ import annotations

import argparse
from collections.abc import Iterator

from acode_vllm.cli.commands.command_parser import CommandParser


def command_markdown(parser: CommandParser) -> str:
    """One section for each command; the options that all of them share are told once."""
    groups = [group for group in parser._action_groups if "every command" in (group.title or "")]
    names = {flag for group in groups for action in group._group_actions for flag in action.option_strings}
    parts = [f"{parser.description}\n", "## Options of every command\n", _options(parser, names, wanted=True)]
    parts += [_section(command, names) for command in _commands(parser)]
    return "\n".join(parts)


def _commands(parser: CommandParser) -> Iterator[CommandParser]:
    """The parsers that run something or hold others, as they are shown in the help."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            shown = {choice.dest for choice in action._choices_actions if choice.help != argparse.SUPPRESS}
            for name, child in action.choices.items():
                if name in shown:
                    yield child
                    yield from _commands(child)


def _section(parser: CommandParser, shared: set[str]) -> str:
    own = [f"## `{parser.prog}`\n"]
    if parser.description:
        own.append(f"{parser.description}\n")
    if any(isinstance(action, argparse._SubParsersAction) for action in parser._actions):
        return "\n".join([*own, _examples(parser)])
    own += ["```text", _usage(parser, shared), "```\n", _options(parser, shared, wanted=False), _examples(parser)]
    return "\n".join(own)


def _usage(parser: CommandParser, shared: set[str]) -> str:
    """The usage in one line, without what all commands share."""
    words = [parser.prog]
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or shared.intersection(action.option_strings) or _is_help(action):
            continue
        value = _value(action)
        if action.option_strings:
            words.append(f"[{action.option_strings[0]}{' ' + value if value else ''}]")
        else:
            words.append(f"[{value}]" if action.nargs == "?" else value)
    return " ".join(words)


def _options(parser: CommandParser, shared: set[str], *, wanted: bool) -> str:
    rows = []
    for action in parser._actions:
        is_shared = bool(shared.intersection(action.option_strings))
        hidden = action.help == argparse.SUPPRESS or _is_help(action)
        if hidden or is_shared is not wanted or isinstance(action, argparse._SubParsersAction):
            continue
        value = _value(action)
        names = ", ".join(f"`{flag}{' ' + value if value else ''}`" for flag in action.option_strings) or f"`{value}`"
        rows.append(f"| {names} | {_cell(action.help or '')} |")
    return "\n".join(["| Argument | Meaning |", "|---|---|", *rows, ""]) if rows else ""


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if isinstance(action.metavar, str):
        return action.metavar
    return "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()


def _is_help(action: argparse.Action) -> bool:
    return isinstance(action, (argparse._HelpAction, argparse._VersionAction))


def _examples(parser: CommandParser) -> str:
    return "\n".join(["```text", *parser.examples, "```\n"]) if parser.examples else ""


def _cell(text: str) -> str:
    return text.replace("%%", "%").replace("|", "\\|").replace("\n", " ")
