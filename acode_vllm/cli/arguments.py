"""The command line: what may be typed, and which function runs it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from acode_vllm._version import __version__
from acode_vllm.cli.commands.command_parser import (
    CommandParser,
    HelpFormatter,
    Subcommands,
    add_command,
    completes,
    examples_text,
)
from acode_vllm.cli.commands.provider_names import PROVIDERS
from acode_vllm.cli.plain_words import NotPlainError, read_words
from acode_vllm.cli.screen.terminal import Terminal

SHELLS = ("bash", "zsh", "fish")

_EXAMPLES = (
    'acode ask "write a hello world program"  # starts the server if it is not running',
    "acode doctor  # check what a start needs",
    "acode status",
    "acode logs -f",
    "acode stop",
    "acode config init  # write a commented .agent/config.yml",
)
_INSTEAD = {
    **dict.fromkeys(("run", "chat", "prompt", "generate"), 'acode ask "PROMPT"'),
    **dict.fromkeys(("serve", "up"), "acode start"),
    **dict.fromkeys(("down", "kill"), "acode stop"),
    **dict.fromkeys(("pull", "pull-model"), "acode providers pull-model vllm MODEL"),
    **dict.fromkeys(("use", "switch", "set-model"), "acode providers set-model vllm MODEL"),
    **dict.fromkeys(("list", "ls"), "acode providers list"),
    **{name: f"acode providers {name}" for name in ("events", "metrics", "supervise", "reset-restarts")},
    **{name: f"acode config {name}" for name in ("init", "show", "check", "trust", "schema")},
    "help": "acode --help",
    "version": "acode --version",
}
"""What people type first, used to other programs."""
_LATER = (
    "\n\nMore: acode COMMAND --help. start, stop, restart, status, logs and history are short for acode providers …"
    "\nExit codes: 0 success, 1 failure (with an ACODE-VLM code), 2 wrong usage, 130 Ctrl-C."
)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments as a namespace; ``run`` is the command's function. Wrong usage exits with 2."""
    arguments = build_parser(_command_in(argv)).parse_args(argv)
    for name in ("provider", "config", "mode", "lifecycle_mode", "port", "model", "log_format"):
        if not hasattr(arguments, name):
            setattr(arguments, name, None)
    arguments.log_format = arguments.log_format or "text"
    if arguments.command == "ask":
        arguments.prompt = " ".join(arguments.prompt) if arguments.prompt else None
    for name in ("quiet", "verbose", "no_color"):
        if not hasattr(arguments, name):
            setattr(arguments, name, False)
    return arguments


def build_parser(only: str | None = None) -> CommandParser:
    """The whole tree of commands, or this one alone: making all the parsers takes longer than asking a server."""
    shared = _shared()
    parser = CommandParser(
        prog="acode",
        description="Ask a large language model on this machine. Its server is started and kept running for you.",
        epilog=examples_text(_EXAMPLES) + _LATER,
        formatter_class=HelpFormatter,
        parents=[shared],
    )
    parser.examples = _EXAMPLES
    parser.instead = _INSTEAD
    parser.add_argument("--version", action="version", version=f"acode {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for name, add in _COMMANDS.items():
        if only in (None, name):
            add(commands, shared)
    return parser


def _command_in(argv: Sequence[str]) -> str | None:
    """The command that is typed; None where that is not plain to see."""
    with suppress(NotPlainError):
        for option, value in read_words(argv):
            if not option:
                return value if value in _COMMANDS else None
    return None


def _shared() -> argparse.ArgumentParser:
    """Options that may stand before or after the command."""
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = shared.add_argument_group("options of every command")
    completes(group.add_argument("--provider", metavar="NAME", help="the provider to use: vllm"), *PROVIDERS)
    group.add_argument("--config", metavar="FILE", help="configuration file to use instead of .agent/config.yml")
    mode = group.add_argument(
        "--mode",
        metavar="MODE",
        help="what may be reached: local-only (the model hub; the default), airgapped (nothing: cached models only), or"
        " burst (as local-only here, but other parts of acode may use the cloud)",
    )
    completes(mode, "local-only", "burst", "airgapped")
    lifecycle = group.add_argument(
        "--lifecycle-mode",
        metavar="MODE",
        help="who runs the server: managed (acode does), monitored (you do, acode checks it) or external (unchecked)",
    )
    completes(lifecycle, "managed", "monitored", "external")
    group.add_argument("--port", metavar="N", help="port of the server (VLLM_PORT; default 8000)")
    group.add_argument("-q", "--quiet", action="store_true", help="print only results and errors")
    group.add_argument("-v", "--verbose", action="store_true", help="show the log")
    group.add_argument("--log-format", choices=("text", "json"), help="format of everything on standard error")
    group.add_argument("--no-color", action="store_true", help="no colors (NO_COLOR)")
    return shared


def _add_ask(commands: Subcommands[CommandParser], shared: argparse.ArgumentParser) -> None:
    ask = add_command(
        commands,
        "ask",
        "send a prompt and print the answer",
        description="Starts the server if it is not running. The answer streams to standard output, everything else"
        "\ngoes to standard error.",
        examples=(
            'acode ask "write a hello world program"',
            "acode ask who are you  # words are joined; quote what the shell would change",
            'git diff | acode ask "explain this change"',
            'acode ask --model org/other-model --max-tokens 200 --temperature 0 "who are you?"',
            'acode ask --quiet "name three colours" > colours.txt',
        ),
        parents=(shared,),
    )
    ask.add_argument("prompt", nargs="*", metavar="PROMPT", help="the prompt; without it, standard input is read")
    ask.joins = "prompt"
    ask.add_argument("--model", metavar="ID", help="model to ask (VLLM_MODEL)")
    ask.add_argument("--system", metavar="TEXT", help="system message")
    ask.add_argument("--max-tokens", metavar="N", type=_positive, help="maximum length of the answer, in tokens")
    ask.add_argument(
        "--temperature",
        metavar="T",
        type=_temperature,
        help="sampling temperature, 0 to 2",
    )
    ask.set_defaults(run=_ask)


def _add_providers(commands: Subcommands[CommandParser], shared: argparse.ArgumentParser) -> None:
    from acode_vllm.cli.commands import providers_arguments

    providers_arguments.add_parser(commands, shared)


def _add_shortcut(name: str, commands: Subcommands[CommandParser], shared: argparse.ArgumentParser) -> None:
    from acode_vllm.cli.commands import providers_arguments

    providers_arguments.add_shortcut(name, commands, shared)


def _add_config(commands: Subcommands[CommandParser], shared: argparse.ArgumentParser) -> None:
    from acode_vllm.cli.commands import config_command

    config_command.add_parser(commands, shared)


def _add_doctor(commands: Subcommands[CommandParser], shared: argparse.ArgumentParser) -> None:
    doctor = add_command(
        commands,
        "doctor",
        "check everything a start needs; pack a bug report",
        description="Starts nothing. Exits with 1 if something is wrong.",
        examples=(
            "acode doctor",
            "acode doctor --model org/other-model --json",
            "acode doctor --bundle report.tar.gz  # for a bug report; without secrets",
        ),
        parents=(shared,),
    )
    doctor.add_argument("--json", action="store_true", help="as JSON")
    doctor.add_argument("--model", metavar="ID", help="model to check (VLLM_MODEL)")
    doctor.add_argument(
        "--bundle",
        metavar="FILE",
        help="pack report, status, configuration and logs for a bug report, without secrets",
    )
    doctor.set_defaults(run=_doctor)


def _add_completion(commands: Subcommands[CommandParser], shared: argparse.ArgumentParser) -> None:
    completion = add_command(
        commands,
        "completion",
        "print a shell's completion script for acode",
        examples=(
            'eval "$(acode completion bash)"  # in ~/.bashrc',
            'eval "$(acode completion zsh)"  # in ~/.zshrc, after compinit',
            "acode completion fish > ~/.config/fish/completions/acode.fish",
        ),
        parents=(shared,),
    )
    completion.add_argument("shell", choices=SHELLS, help="the shell")
    completion.set_defaults(run=_completion)


def _ask(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from acode_vllm.cli.commands.ask import run_ask

    return run_ask(arguments, terminal)


def _doctor(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from acode_vllm.cli.commands.doctor_command import run

    return run(arguments, terminal)


def _completion(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from acode_vllm.cli.commands.completion import completion_script

    terminal.print(completion_script(build_parser(), arguments.shell))
    return 0


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return value


def _temperature(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 2.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 2")
    return value


_COMMANDS: dict[str, Callable[[Subcommands[CommandParser], argparse.ArgumentParser], None]] = {
    "ask": _add_ask,
    **{name: partial(_add_shortcut, name) for name in ("start", "stop", "restart", "status", "ps", "logs", "history")},
    "providers": _add_providers,
    "config": _add_config,
    "doctor": _add_doctor,
    "completion": _add_completion,
}
