"""``acode providers list``: the providers, each with its state and its current settings."""

from __future__ import annotations

import argparse
import json

from acode_vllm.cli.commands.provider_names import DEFAULT_PROVIDER, PROVIDERS
from acode_vllm.cli.commands.session import Session
from acode_vllm.cli.screen.screen import table_lines
from acode_vllm.cli.screen.terminal import Terminal
from acode_vllm.records.recorded import recorded_service
from acode_vllm.vocabulary.states import ServiceState


def show_providers(session: Session, arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Run the command; returns the exit code."""
    service = recorded_service(session.folder)
    options = session.configuration.options
    state = service.status.state if service is not None else ServiceState.STOPPED
    providers = [
        {
            "name": name,
            "default": name == DEFAULT_PROVIDER,
            "state": state.value,
            "mode": options.mode.value,
            "model": (service.status.model if service is not None else None) or session.known_model,
            "url": f"{options.url}/v1",
        }
        for name in PROVIDERS
    ]
    if arguments.json:
        terminal.print(json.dumps(providers, indent=2))
        return 0
    rows = [["PROVIDER", "STATE", "MODE", "URL", "MODEL"]]
    rows += [[str(row[key] or "-") for key in ("name", "state", "mode", "url", "model")] for row in providers]
    for line in table_lines(rows):
        terminal.print(line)
    return 0
