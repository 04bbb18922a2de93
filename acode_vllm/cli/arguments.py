"""The command line: what may be typed, and which function runs it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

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
from acode_vllm.cli.screen.terminal import Terminal

SHELLS = ("bash", "zsh", "fish")

_EXAMPLES = (
    'acode ask "write a hello world program"  # starts the server where it does not run',
    "acode doctor  # what would keep it from starting",
    "acode providers status vllm  # what it is and does",
    "acode providers stop vllm",
    "acode config init  # a commented .agent/config.yml",
)
_WITH_VALUE = ("--provider", "--config", "--mode", "--lifecycle-mode", "--port", "--log-format")
_WITHOUT_VALUE = ("-q", "--quiet", "-v", "--verbose", "--no-color")
_LATER = (
    "\n\nEach command explains itself: acode ask --help, acode providers --help, acode providers start --help …"
    "\nExit codes: 0 done, 1 failed (with an ACODE-VLM code), 2 wrong usage, 130 Ctrl-C."
)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments as a namespace; ``run`` is the command's function. Wrong usage exits with 2."""
    arguments = build_parser(_command_in(argv)).parse_args(argv)
    for name in ("provider", "config", "mode", "lifecycle_mode", "port", "model", "log_format"):
        if not hasattr(arguments, name):
            setattr(arguments, name, None)
    arguments.log_format = arguments.log_format or "text"
    for name in ("quiet", "verbose", "no_color"):
        if not hasattr(arguments, name):
            setattr(arguments, name, False)
    return arguments


def build_parser(only: str | None = None) -> CommandParser:
    """The whole tree of commands, or this one alone: to make the parsers of all takes longer than to ask a server."""
    shared = _shared()
    parser = CommandParser(
        prog="acode",
        description="Ask a large language model on this machine; its server is started and kept running for you.",
        epilog=examples_text(_EXAMPLES) + _LATER,
        formatter_class=HelpFormatter,
        parents=[shared],
    )
    parser.examples = _EXAMPLES
    parser.add_argument("--version", action="version", version=f"acode {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, add in _COMMANDS.items():
        if only in (None, name):
            add(commands, shared)
    return parser


def _command_in(argv: Sequence[str]) -> str | None:
    """The command that is typed; None where that is not plain to see."""
    words = iter(argv)
    for word in words:
        if not word.startswith("-"):
            return word if word in _COMMANDS else None
        if word in _WITH_VALUE:
            next(words, None)
        elif word.partition("=")[0] not in _WITH_VALUE and word not in _WITHOUT_VALUE:
            return None
    return None


def _shared() -> argparse.ArgumentParser:
    """Options that may stand before or after the command."""
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = shared.add_argument_group("options of every command")
    completes(group.add_argument("--provider", metavar="NAME", help="the provider to use: vllm"), *PROVIDERS)
    group.add_argument("--config", metavar="FILE", help="configuration file, instead of .agent/config.yml")
    mode = group.add_argument("--mode", metavar="MODE", help="operating mode: local-only, burst or airgapped")
    completes(mode, "local-only", "burst", "airgapped")
    lifecycle = group.add_argument("--lifecycle-mode", metavar="MODE", help="managed, monitored or external")
    completes(lifecycle, "managed", "monitored", "external")
    group.add_argument("--port", metavar="N", help="port of the server (VLLM_PORT, default 8000)")
    group.add_argument("-q", "--quiet", action="store_true", help="say nothing but results and errors")
    group.add_argument("-v", "--verbose", action="store_true", help="show the log")
    group.add_argument("--log-format", choices=("text", "json"), help="form of all that goes to standard error")
    group.add_argument("--no-color", action="store_true", help="no colours (NO_COLOR); there are none without terminal")
    return shared


def _add_ask(commands: Subcommands[CommandParser], shared: argparse.ArgumentParser) -> None:
    ask = add_command(
        commands,
        "ask",
        "send a prompt and print the answer",
        description="The server is started where it does not run. The answer streams to standard output, everything"
        "\nelse goes to standard error.",
        examples=(
            'acode ask --provider vllm "write a hello world program"',
            'git diff | acode ask "explain this change"',
            'acode ask --model org/other-model --max-tokens 200 --temperature 0 "who are you?"',
            'acode ask --quiet "name three colours" > colours.txt',
        ),
        parents=(shared,),
    )
    ask.add_argument("prompt", nargs="?", metavar="PROMPT", help="the prompt; read from standard input without it")
    ask.add_argument("--model", metavar="ID", help="model to ask (VLLM_MODEL)")
    ask.add_argument("--system", metavar="TEXT", help="system message")
    ask.add_argument("--max-tokens", metavar="N", type=_positive, help="longest answer, in tokens")
    ask.add_argument("--temperature", metavar="T", type=_temperature, help="0 for the likeliest answer, up to 2")
    ask.set_defaults(run=_ask)


def _add_providers(commands: Subcommands[CommandParser], shared: argparse.ArgumentParser) -> None:
    from acode_vllm.cli.commands import providers_arguments

    providers_arguments.add_parser(commands, shared)


def _add_config(commands: Subcommands[CommandParser], shared: argparse.ArgumentParser) -> None:
    from acode_vllm.cli.commands import config_command

    config_command.add_parser(commands, shared)


def _add_doctor(commands: Subcommands[CommandParser], shared: argparse.ArgumentParser) -> None:
    doctor = add_command(
        commands,
        "doctor",
        "check everything that a start needs; pack a bug report",
        description="Nothing is started. Exits with 1 where something is wrong.",
        examples=(
            "acode doctor",
            "acode doctor --model org/other-model --json",
            "acode doctor --bundle report.tar.gz  # for a bug report: without secrets",
        ),
        parents=(shared,),
    )
    doctor.add_argument("--json", action="store_true", help="as JSON")
    doctor.add_argument("--model", metavar="ID", help="model to check (VLLM_MODEL)")
    doctor.add_argument(
        "--bundle",
        metavar="FILE",
        help="pack report, status, configuration and logs, without secrets, for a bug report",
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


_COMMANDS = {
    "ask": _add_ask,
    "providers": _add_providers,
    "config": _add_config,
    "doctor": _add_doctor,
    "completion": _add_completion,
}
