"""The command line: what may be typed, and which function runs it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from acode_vllm._version import __version__
from acode_vllm.cli.terminal import Terminal

Command = Callable[[argparse.Namespace, Terminal], int]

_ASK_EXAMPLES = """\
examples:
  acode ask --provider vllm "write a hello world program"
  git diff | acode ask "explain this change"
  acode ask --model org/other-model --max-tokens 200 --temperature 0 "who are you?"
"""
_PROVIDERS_EXAMPLES = """\
examples:
  acode providers start vllm
  acode providers status vllm --json
  acode providers set-model vllm meta-llama/Llama-2-13b-hf
  acode providers stop vllm
"""
_DOCTOR_EXAMPLES = """\
examples:
  acode doctor
  acode doctor --model org/other-model --json
  acode doctor --bundle report.tar.gz
"""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments as a namespace; ``run`` is the command's function. Wrong usage exits with 2."""
    arguments = _parser().parse_args(argv)
    for name in ("provider", "config", "mode", "lifecycle_mode", "port", "model", "log_format"):
        if not hasattr(arguments, name):
            setattr(arguments, name, None)
    arguments.log_format = arguments.log_format or "text"
    for name in ("quiet", "verbose"):
        if not hasattr(arguments, name):
            setattr(arguments, name, False)
    return arguments


def _parser() -> argparse.ArgumentParser:
    shared = _shared()
    parser = argparse.ArgumentParser(
        prog="acode",
        description="Ask a large language model on this machine; its server is started and kept running for you.",
        epilog=_ASK_EXAMPLES
        + "\nSee: acode ask --help, acode providers --help, acode config --help, acode doctor --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[shared],
    )
    parser.add_argument("--version", action="version", version=f"acode {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_ask(commands, shared)
    _add_providers(commands, shared)
    from acode_vllm.cli import config_command

    config_command.add_parser(commands, shared)
    _add_doctor(commands, shared)
    return parser


def _shared() -> argparse.ArgumentParser:
    """Options that may stand before or after the command."""
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = shared.add_argument_group("options of every command")
    group.add_argument("--provider", metavar="NAME", help="the provider to use: vllm")
    group.add_argument("--config", metavar="FILE", help="configuration file, instead of .agent/config.yml")
    group.add_argument("--mode", metavar="MODE", help="operating mode: local-only, burst or airgapped")
    group.add_argument("--lifecycle-mode", metavar="MODE", help="managed, monitored or external")
    group.add_argument("--port", metavar="N", help="port of the server (VLLM_PORT, default 8000)")
    group.add_argument("-q", "--quiet", action="store_true", help="say nothing but results and errors")
    group.add_argument("-v", "--verbose", action="store_true", help="show the log")
    group.add_argument("--log-format", choices=("text", "json"), help="form of the log on standard error")
    return shared


def _add_ask(commands: argparse._SubParsersAction[argparse.ArgumentParser], shared: argparse.ArgumentParser) -> None:
    ask = commands.add_parser(
        "ask",
        help="send a prompt and print the answer",
        description="Send a prompt; the server is started where it does not run. The answer streams to standard"
        " output, everything else goes to standard error.",
        epilog=_ASK_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[shared],
    )
    ask.add_argument("prompt", nargs="?", metavar="PROMPT", help="the prompt; read from standard input without it")
    ask.add_argument("--model", metavar="ID", help="model to ask (VLLM_MODEL)")
    ask.add_argument("--system", metavar="TEXT", help="system message")
    ask.add_argument("--max-tokens", metavar="N", type=_positive, help="longest answer, in tokens")
    ask.add_argument("--temperature", metavar="T", type=_temperature, help="0 for the likeliest answer, up to 2")
    ask.set_defaults(run=_ask)


def _add_providers(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], shared: argparse.ArgumentParser
) -> None:
    providers = commands.add_parser(
        "providers",
        help="start, stop and look at a provider's server",
        epilog=_PROVIDERS_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[shared],
    )
    actions = providers.add_subparsers(dest="action", required=True, metavar="ACTION")

    def add(name: str, run: Command, text: str, *, optional: bool = False) -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", parents=[shared])
        if optional:
            action.add_argument("provider_name", nargs="?", metavar="PROVIDER", help="vllm")
        else:
            action.add_argument("provider_name", metavar="PROVIDER", help="vllm")
        action.set_defaults(run=run)
        return action

    start = add("start", _action("start"), "start the server and wait until it is healthy")
    start.add_argument("--model", metavar="ID", help="model to serve (VLLM_MODEL)")
    add("stop", _action("stop"), "stop the server with all its processes")
    add("restart", _action("restart"), "stop the server and start it again with the settings of now")
    status = add("status", _action("status"), "show what the server is and does", optional=True)
    status.add_argument("--json", action="store_true", help="as JSON: docs/schemas/status.schema.json")
    status.add_argument("--all", action="store_true", help="every service of this user, one line each")
    history = add("history", _action("history"), "show what has happened to the server")
    history.add_argument("--json", action="store_true", help="as JSON")
    set_model = add("set-model", _action("set_model"), "serve another model from now on")
    set_model.add_argument(
        "new_model", metavar="MODEL", help="hub ID (org/model-name) or absolute path of a model folder"
    )
    supervise = add("supervise", _supervise, "keep the server: watch it and mend it until ended by a signal")
    supervise.add_argument("--model", metavar="ID", help="model to serve (VLLM_MODEL)")
    supervise.add_argument("--detached", action="store_true", help=argparse.SUPPRESS)
    pull = add("pull-model", _action("pull_model"), "fetch a model beforehand, or go on with an interrupted pull")
    pull.add_argument("new_model", metavar="MODEL", help="hub ID (org/model-name)")
    add("reset-restarts", _action("reset_restarts"), "forget the restarts so far, and a limit that was reached")


def _add_doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser], shared: argparse.ArgumentParser) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="check everything that a start needs; pack a bug report",
        description="Check everything that a start needs, and start nothing. Exits with 1 where something is wrong.",
        epilog=_DOCTOR_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[shared],
    )
    doctor.add_argument("--json", action="store_true", help="as JSON")
    doctor.add_argument("--model", metavar="ID", help="model to check (VLLM_MODEL)")
    doctor.add_argument(
        "--bundle",
        metavar="FILE",
        help="pack report, status, configuration and logs, without secrets, for a bug report",
    )
    doctor.set_defaults(run=_doctor)


def _ask(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from acode_vllm.cli.ask import run_ask

    return run_ask(arguments, terminal)


def _doctor(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from acode_vllm.cli.doctor_command import run

    return run(arguments, terminal)


def _action(name: str) -> Command:
    def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
        from acode_vllm.cli import providers

        return providers.run_action(name, arguments, terminal)

    return run


def _supervise(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from acode_vllm.cli import supervise

    return supervise.run(arguments, terminal)


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
