"""What may be typed after ``acode providers``, and the short forms of it after ``acode`` itself."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from acode_vllm.cli.commands.command_parser import Command, CommandParser, Subcommands, add_command, completes
from acode_vllm.cli.commands.provider_names import DEFAULT_PROVIDER, PROVIDERS
from acode_vllm.cli.screen.terminal import Terminal

_MODEL_HELP = "hub ID (org/model-name)"


class _ProviderName(Enum):
    """Whether a command takes the provider's name."""

    REQUIRED = auto()
    """Another argument follows it."""
    OPTIONAL = auto()
    NONE = auto()


class _Add(Protocol):
    """Adds a command."""

    def __call__(
        self,
        name: str,
        text: str,
        *examples: str,
        run: Command | None = None,
        description: str = "",
        provider: _ProviderName = _ProviderName.OPTIONAL,
    ) -> CommandParser: ...


def add_parser(commands: Subcommands[CommandParser], shared: argparse.ArgumentParser) -> None:
    """Add ``providers`` and its actions to ``commands``; ``shared`` holds the options of every command."""
    providers = add_command(
        commands,
        "providers",
        "start, stop and look at a provider's server",
        examples=(
            "acode providers start vllm",
            "acode providers status vllm --watch  # live, until Ctrl-C",
            "acode providers status vllm --json",
            "acode providers set-model vllm meta-llama/Llama-2-13b-hf",
            "acode providers stop vllm",
        ),
        description="There is one provider, vllm; it can be left out.",
        parents=(shared,),
    )
    providers.instead = {"ps": "acode providers status --all", "pull": "acode providers pull-model vllm MODEL"}
    add = _adder(
        providers.add_subparsers(title="actions", dest="action", required=True, metavar="ACTION"), shared, short=False
    )
    for add_action in _ACTIONS.values():
        add_action(add)


def add_shortcut(name: str, commands: Subcommands[CommandParser], shared: argparse.ArgumentParser) -> None:
    """Add ``acode NAME`` for ``acode providers NAME``, and ``acode ps`` for the status of all services."""
    add = _adder(commands, shared, short=True)
    if name == "ps":
        ps = add("ps", "list every service of yours", "acode ps", "acode ps --json", provider=_ProviderName.NONE)
        ps.add_argument("--json", action="store_true", help="as JSON")
        ps.set_defaults(run=_action("status"), all=True, watch=False)
    else:
        _ACTIONS[name](add)


def _adder(actions: Subcommands[CommandParser], shared: argparse.ArgumentParser, *, short: bool) -> _Add:
    def add(
        name: str,
        text: str,
        *examples: str,
        run: Command | None = None,
        description: str = "",
        provider: _ProviderName = _ProviderName.OPTIONAL,
    ) -> CommandParser:
        if short:
            examples = tuple(
                example.replace("acode providers ", "acode ").replace(f" {DEFAULT_PROVIDER}", "")
                for example in examples
            )
        action = add_command(actions, name, text, examples=examples, description=description, parents=(shared,))
        if provider is not _ProviderName.NONE:
            nargs = "?" if provider is _ProviderName.OPTIONAL else None
            named = action.add_argument("provider_name", nargs=nargs, metavar="PROVIDER", help=", ".join(PROVIDERS))
            completes(named, *PROVIDERS)
        action.set_defaults(run=run or _action(name.replace("-", "_")))
        return action

    return add


def _start(add: _Add) -> None:
    start = add(
        "start",
        "start the server and wait until it is healthy",
        "acode providers start vllm",
        "acode providers start vllm --model meta-llama/Llama-2-13b-hf",
        "VLLM_PORT=8001 acode providers start vllm  # a second server beside the first",
        description="It runs until it is stopped; a small keeper process watches it.",
    )
    start.add_argument("--model", metavar="ID", help="model to serve (VLLM_MODEL)")


def _stop(add: _Add) -> None:
    add(
        "stop",
        "stop the server with all its processes",
        "acode providers stop vllm",
        "acode providers stop vllm --port 8001",
    )


def _restart(add: _Add) -> None:
    add("restart", "restart the server with the current settings", "acode providers restart vllm")


def _supervise(add: _Add) -> None:
    supervise = add(
        "supervise",
        "keep the server running, in the foreground",
        "acode providers supervise vllm",
        "acode providers supervise vllm --log-format json  # for a container's log",
        run=_run_supervise,
        description="Starts, watches and restarts it until a signal ends this command: under systemd, in tmux or in a"
        "\ncontainer. The server outlives it, unless stop_on_exit is set. SIGHUP reads the configuration again.",
    )
    supervise.add_argument("--model", metavar="ID", help="model to serve (VLLM_MODEL)")


def _reset_restarts(add: _Add) -> None:
    add(
        "reset-restarts",
        "forget past restarts, and a restart limit that was reached",
        "acode providers reset-restarts vllm",
    )


def _list(add: _Add) -> None:
    listed = add(
        "list",
        "list the providers",
        "acode providers list",
        "acode providers list --json",
        provider=_ProviderName.NONE,
    )
    listed.add_argument("--json", action="store_true", help="as JSON")


def _status(add: _Add) -> None:
    status = add(
        "status",
        "show the server's state, model, health and GPUs",
        "acode providers status vllm",
        "acode providers status vllm --watch  # live, until Ctrl-C",
        "acode providers status vllm --json",
        "acode providers status --all  # every service of yours",
    )
    status.add_argument("--json", action="store_true", help="as JSON: docs/schemas/status.schema.json")
    status.add_argument("--all", action="store_true", help="every service of this user, one line each")
    status.add_argument("--watch", action="store_true", help="live, until Ctrl-C")


def _history(add: _Add) -> None:
    history = add(
        "history",
        "show what happened to the server",
        "acode providers history vllm",
        "acode providers history vllm -n 20 --since 1h",
        "acode providers history vllm --json",
    )
    _add_since(history)
    _add_lines(history)
    history.add_argument("--json", action="store_true", help="as JSON")


def _metrics(add: _Add) -> None:
    add(
        "metrics",
        "print the server's metrics for Prometheus",
        "acode providers metrics vllm",
        "acode providers metrics vllm > /var/lib/node_exporter/textfile/acode_vllm.prom",
        description="With providers.vllm.metrics_port set, they are served on http://127.0.0.1:PORT/metrics as well.",
    )


def _events(add: _Add) -> None:
    events = add(
        "events",
        "show what happens to the server",
        "acode providers events vllm",
        "acode providers events vllm --follow  # until Ctrl-C",
        "acode providers events vllm --follow --json",
        description="The history; with --follow everything else too as it happens: checks, load progress, GPU samples.",
    )
    events.add_argument("-f", "--follow", action="store_true", help="keep showing events as they happen, until Ctrl-C")
    events.add_argument("--json", action="store_true", help="one JSON object a line")


def _logs(add: _Add) -> None:
    logs = add(
        "logs",
        "show vLLM's own output, without secrets",
        "acode providers logs vllm  # the last 100 lines",
        "acode providers logs vllm -f  # and new ones, until Ctrl-C",
        "acode providers logs vllm --since 10m",
        "acode providers logs vllm --since 14:30 -n 20",
    )
    logs.add_argument("-f", "--follow", action="store_true", help="keep showing new lines, until Ctrl-C")
    _add_since(logs)
    _add_lines(logs)


def _add_since(parser: CommandParser) -> None:
    parser.add_argument("--since", metavar="WHEN", help="90s, 10m, 2h, 1d ago; 14:30; 2026-11-24T14:30")


def _add_lines(parser: CommandParser) -> None:
    lines = parser.add_argument("-n", "--lines", metavar="N", type=_number_of_lines, help="the last N lines, or all")
    completes(lines, "10", "100", "1000", "all")


def _number_of_lines(text: str) -> int:
    if text == "all":
        return sys.maxsize
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is neither a number of lines nor all")


def _set_model(add: _Add) -> None:
    set_model = add(
        "set-model",
        "switch to another model",
        "acode providers set-model vllm meta-llama/Llama-2-13b-hf",
        "acode providers set-model vllm /srv/models/mine",
        description="Restarts the server with it and remembers the choice.",
        provider=_ProviderName.REQUIRED,
    )
    set_model.add_argument("new_model", metavar="MODEL", help=_MODEL_HELP + " or absolute path of a model folder")


def _pull_model(add: _Add) -> None:
    pull = add(
        "pull-model",
        "download a model, or resume an interrupted download",
        "acode providers pull-model vllm meta-llama/Llama-2-7b-hf",
        "HF_TOKEN=hf_… acode providers pull-model vllm org/private-model",
        provider=_ProviderName.REQUIRED,
    )
    pull.add_argument("new_model", metavar="MODEL", help=_MODEL_HELP)


def _action(name: str) -> Command:
    def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
        from acode_vllm.cli.commands import providers

        return providers.run_action(name, arguments, terminal)

    return run


def _run_supervise(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from acode_vllm.cli.commands import supervise

    return supervise.run(arguments, terminal)


_ACTIONS: dict[str, Callable[[_Add], None]] = {
    "start": _start,
    "stop": _stop,
    "restart": _restart,
    "supervise": _supervise,
    "reset-restarts": _reset_restarts,
    "list": _list,
    "status": _status,
    "logs": _logs,
    "history": _history,
    "metrics": _metrics,
    "events": _events,
    "set-model": _set_model,
    "pull-model": _pull_model,
}
