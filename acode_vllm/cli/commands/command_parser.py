"""The parser of every command: help with examples, and errors that suggest the right word."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from acode_vllm.cli.screen.terminal import Terminal

Command = Callable[[argparse.Namespace, "Terminal"], int]
Subcommands = argparse._SubParsersAction  # noqa: SLF001 - argparse has no public name for it


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Leaves the options that every command has out of the usage."""

    def add_usage(
        self, usage: str | None, actions: Iterable[argparse.Action], groups: Iterable[Any], prefix: str | None = None
    ) -> None:
        """Add the usage without the shared options."""
        own = [action for action in actions if action.default is not argparse.SUPPRESS or not action.option_strings]
        super().add_usage(usage, own, groups, prefix)


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors come from the command that was typed, with its own usage, and suggest the right word.

    Attributes:
        examples: Whole command lines, each with a comment after a ``#`` where that helps.
        instead: Words that people type and that are no commands, with the command line they want.
        joins: The argument that takes all further words, wherever they stand; empty for none.
    """

    examples: tuple[str, ...] = ()
    instead: Mapping[str, str] = MappingProxyType({})
    joins: str = ""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse unknown arguments here, so that the error shows this command's usage and not that of ``acode``."""
        found, rest = super().parse_known_args(args, namespace)
        if self.joins and not any(word.startswith("-") for word in rest):
            getattr(found, self.joins).extend(rest)
        elif rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}{self._near(rest[0], self._option_string_actions)}")
        return found, []

    def error(self, message: str) -> NoReturn:
        """Print the error and where to find help, then exit with 2."""
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: error: {message}\nSee: {self.prog} --help\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        # argparse ignores failed writes.
        (file or sys.stderr).write(message)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        hint = f"; use: {self.instead[value]}" if value in self.instead else self._near(str(value), choices)
        raise argparse.ArgumentError(action, f"{value!r} is none of: {', '.join(choices)}{hint}")

    @staticmethod
    def _near(word: str, known: Iterable[str]) -> str:
        from difflib import get_close_matches

        near = get_close_matches(word, list(known), 2)
        return f"; did you mean {' or '.join(near)}?" if near else ""


def add_command(
    commands: Subcommands[Any],
    name: str,
    text: str,
    *,
    examples: tuple[str, ...],
    description: str = "",
    parents: tuple[argparse.ArgumentParser, ...] = (),
) -> CommandParser:
    """Add a command, or an action of one.

    Args:
        commands: What it is added to.
        name: Its name.
        text: What it does, for the list of commands.
        examples: See `CommandParser.examples`.
        description: Further sentences of its help.
        parents: Parsers whose options it inherits.
    """
    described = text[0].upper() + text[1:] + "." + (f"\n{description}" if description else "")
    parser: CommandParser = commands.add_parser(
        name,
        help=text,
        description=described,
        epilog=examples_text(examples),
        formatter_class=HelpFormatter,
        parents=list(parents),
    )
    parser.examples = examples
    return parser


def examples_text(examples: tuple[str, ...]) -> str:
    """The examples as the end of a help text, with their comments aligned."""
    split = [(line.partition("  # ")[0], line.partition("  # ")[2]) for line in examples]
    width = max((len(command) for command, comment in split if comment), default=0)
    lines = [f"  {command:<{width}}  # {comment}" if comment else f"  {command}" for command, comment in split]
    return "examples:\n" + "\n".join(lines)


def completes(action: argparse.Action, *words: str) -> None:
    """Have the shell complete an argument with these words; the argument is validated elsewhere."""
    setattr(action, "complete_words", words)  # noqa: B010 - an attribute of ours on a class that is not


def words_of(action: argparse.Action) -> tuple[str, ...]:
    """The words that `completes` named for it."""
    words: tuple[str, ...] = getattr(action, "complete_words", ())
    return words


def all_commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """A parser and every command below it, by full name, as completion and manual need them."""
    found = {parser.prog: parser}
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to be read
        if isinstance(action, Subcommands):
            for below in action.choices.values():
                found |= all_commands(below)
    return found
