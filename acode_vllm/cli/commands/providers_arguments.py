"""What may be typed after ``acode providers``."""

from __future__ import annotations

import argparse
import sys
from enum import Enum, auto
from typing import Protocol

from acode_vllm.cli.commands.command_parser import Command, CommandParser, Subcommands, add_command, completes
from acode_vllm.cli.commands.provider_names import PROVIDERS
from acode_vllm.cli.screen.terminal import Terminal

_MODEL_HELP = "hub ID (org/model-name)"


class _ProviderName(Enum):
    """Whether an action is told which provider."""

    ONE = auto()
    OPTIONAL = auto()
    NONE = auto()


class _Add(Protocol):
    """Adds an action."""

    def __call__(
        self,
        name: str,
        run: Command,
        text: str,
        *examples: str,
        description: str = "",
        provider: _ProviderName = _ProviderName.ONE,
    ) -> CommandParser: ...


def add_parser(commands: Subcommands[CommandParser], shared: argparse.ArgumentParser) -> None:
    """Adds ``providers`` and its actions to ``commands``; ``shared`` holds the options of every command."""
    providers = add_command(
        commands,
        "providers",
        "start, stop and look at a provider's server",
        examples=(
            "acode providers start vllm",
            "acode providers status vllm --watch  # as it changes, until Ctrl-C",
            "acode providers status vllm --json",
            "acode providers set-model vllm meta-llama/Llama-2-13b-hf",
            "acode providers stop vllm",
        ),
        parents=(shared,),
    )
    actions = providers.add_subparsers(dest="action", required=True, metavar="ACTION")

    def add(
        name: str,
        run: Command,
        text: str,
        *examples: str,
        description: str = "",
        provider: _ProviderName = _ProviderName.ONE,
    ) -> CommandParser:
        action = add_command(actions, name, text, examples=examples, description=description, parents=(shared,))
        if provider is not _ProviderName.NONE:
            nargs = "?" if provider is _ProviderName.OPTIONAL else None
            named = action.add_argument("provider_name", nargs=nargs, metavar="PROVIDER", help=", ".join(PROVIDERS))
            completes(named, *PROVIDERS)
        action.set_defaults(run=run)
        return action

    _add_life(add)
    _add_looks(add)
    _add_models(add)


def _add_life(add: _Add) -> None:
    start = add(
        "start",
        _action("start"),
        "start the server and wait until it is healthy",
        "acode providers start vllm",
        "acode providers start vllm --model meta-llama/Llama-2-13b-hf",
        "VLLM_PORT=8001 acode providers start vllm  # a second server beside the first",
        description="It stays, watched by a small keeper process, until it is stopped.",
    )
    start.add_argument("--model", metavar="ID", help="model to serve (VLLM_MODEL)")
    add(
        "stop",
        _action("stop"),
        "stop the server with all its processes",
        "acode providers stop vllm",
        "acode providers stop vllm --port 8001",
    )
    add(
        "restart",
        _action("restart"),
        "stop the server and start it again with the settings of now",
        "acode providers restart vllm",
    )
    supervise = add(
        "supervise",
        _supervise,
        "keep the server: watch it and mend it until ended by a signal",
        "acode providers supervise vllm",
        "acode providers supervise vllm --log-format json  # for a container's log",
        description="In the foreground: under systemd, in tmux or in a container. The server outlives it, unless"
        "\nstop_on_exit is set. SIGHUP reads the configuration again.",
    )
    supervise.add_argument("--model", metavar="ID", help="model to serve (VLLM_MODEL)")
    add(
        "reset-restarts",
        _action("reset_restarts"),
        "forget the restarts so far, and a limit that was reached",
        "acode providers reset-restarts vllm",
    )


def _add_looks(add: _Add) -> None:
    listed = add(
        "list",
        _action("list"),
        "show the providers that there are",
        "acode providers list",
        "acode providers list --json",
        provider=_ProviderName.NONE,
    )
    listed.add_argument("--json", action="store_true", help="as JSON")
    status = add(
        "status",
        _action("status"),
        "show what the server is and does",
        "acode providers status vllm",
        "acode providers status vllm --watch  # as it changes, until Ctrl-C",
        "acode providers status vllm --json",
        "acode providers status --all  # every service of yours",
        provider=_ProviderName.OPTIONAL,
    )
    status.add_argument("--json", action="store_true", help="as JSON: docs/schemas/status.schema.json")
    status.add_argument("--all", action="store_true", help="every service of this user, one line each")
    status.add_argument("--watch", action="store_true", help="show it as it changes, until Ctrl-C")
    _add_logs(add)
    history = add(
        "history",
        _action("history"),
        "show what has happened to the server",
        "acode providers history vllm",
        "acode providers history vllm --json",
    )
    history.add_argument("--json", action="store_true", help="as JSON")
    add(
        "metrics",
        _action("metrics"),
        "print the figures of the server for Prometheus",
        "acode providers metrics vllm",
        "acode providers metrics vllm > /var/lib/node_exporter/textfile/acode_vllm.prom",
        description="The same is served on http://127.0.0.1:PORT/metrics where providers.vllm.metrics_port is set.",
    )
    events = add(
        "events",
        _action("events"),
        "show what happens to the server",
        "acode providers events vllm",
        "acode providers events vllm --follow  # until Ctrl-C",
        "acode providers events vllm --follow --json",
        description="What the history holds; with --follow also what is too frequent for it, as it happens, whoever"
        "\nwatches the server.",
    )
    events.add_argument("-f", "--follow", action="store_true", help="go on showing it as it happens, until Ctrl-C")
    events.add_argument("--json", action="store_true", help="one JSON object a line")


def _add_logs(add: _Add) -> None:
    logs = add(
        "logs",
        _action("logs"),
        "show vLLM's own output, without secrets",
        "acode providers logs vllm  # its last 100 lines",
        "acode providers logs vllm -f  # and what comes, until Ctrl-C",
        "acode providers logs vllm --since 10m",
        "acode providers logs vllm --since 14:30 -n 20",
    )
    logs.add_argument("-f", "--follow", action="store_true", help="go on with what is written, until Ctrl-C")
    logs.add_argument(
        "--since",
        metavar="WHEN",
        help="from then on, over the last rotation too: 90s, 10m, 2h, 1d ago; 14:30; 2026-11-24T14:30",
    )
    lines = logs.add_argument("-n", "--lines", metavar="N", type=_lines, help="at most the last N lines; all for all")
    completes(lines, "10", "100", "1000", "all")


def _lines(text: str) -> int:
    if text == "all":
        return sys.maxsize
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is neither a number of lines nor all")


def _add_models(add: _Add) -> None:
    set_model = add(
        "set-model",
        _action("set_model"),
        "serve another model from now on",
        "acode providers set-model vllm meta-llama/Llama-2-13b-hf",
        "acode providers set-model vllm /srv/models/mine",
        description="The server is restarted with it, and the choice is remembered.",
    )
    set_model.add_argument("new_model", metavar="MODEL", help=_MODEL_HELP + " or absolute path of a model folder")
    pull = add(
        "pull-model",
        _action("pull_model"),
        "fetch a model beforehand, or go on with an interrupted pull",
        "acode providers pull-model vllm meta-llama/Llama-2-7b-hf",
        "HF_TOKEN=hf_… acode providers pull-model vllm org/private-model",
    )
    pull.add_argument("new_model", metavar="MODEL", help=_MODEL_HELP)


def _action(name: str) -> Command:
    def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
        from acode_vllm.cli.commands import providers

        return providers.run_action(name, arguments, terminal)

    return run


def _supervise(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from acode_vllm.cli.commands import supervise

    return supervise.run(arguments, terminal)
