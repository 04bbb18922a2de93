"""``acode config show|check|trust|init|schema``: the settings, where they come from, and which file is trusted."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acode_vllm.cli.commands.command_parser import Subcommands, add_command
from acode_vllm.vocabulary.errors import Problem, error_for

if TYPE_CHECKING:
    from acode_vllm.cli.screen.terminal import Terminal
    from acode_vllm.config.configuration import Configuration
    from acode_vllm.vocabulary.redaction import Redactor

_ACTIONS = {
    "show": (
        "show every setting, its value and where it comes from",
        ("acode config show", "VLLM_PORT=8001 acode config show --json"),
    ),
    "check": (
        "check the configuration and list every mistake",
        ("acode config check", "acode config check --config other.yml"),
    ),
    "trust": (
        "trust this project's file to run commands and redirect prompts, until it changes",
        ("acode config trust  # read .agent/config.yml first",),
    ),
    "init": (
        "write .agent/config.yml with every setting explained",
        ("acode config init", "acode config init --force  # replace the one that is there"),
    ),
    "schema": (
        "print the JSON Schema of the configuration, for editors",
        ("acode config schema > .agent/config.schema.json",),
    ),
}


@dataclass(frozen=True)
class Place:
    """Where a command runs: what it may know of the world around it.

    Attributes:
        environ: The environment.
        cwd: The current folder.
        home: The user's home folder.
    """

    environ: Mapping[str, str]
    cwd: Path
    home: Path


def add_parser(commands: Subcommands[Any], shared: argparse.ArgumentParser | None = None) -> None:
    """Adds ``config`` and its actions to ``commands``; ``shared`` holds the options of every command."""
    parents = (shared,) if shared else ()
    parser = add_command(
        commands,
        "config",
        "show, check, trust or write the configuration",
        examples=(
            "acode config init",
            "acode config check",
            "VLLM_PORT=8001 acode config show  # where each value comes from",
            "acode config trust",
        ),
        parents=parents,
    )
    actions = parser.add_subparsers(title="actions", dest="action", required=True, metavar="ACTION")
    for name, (text, examples) in _ACTIONS.items():
        action = add_command(actions, name, text, examples=examples, parents=parents)
        action.set_defaults(run=run)
        if name == "init":
            action.add_argument("--force", action="store_true", help="replace a file that exists")
        if name == "show":
            action.add_argument("--json", action="store_true", help="as JSON")
            action.add_argument("--model", metavar="ID", help="show the result of this flag (VLLM_MODEL)")


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Runs the action that ``arguments`` name, for this process. Errors are raised."""
    from acode_vllm.config.config_places import current_folder, home_folder

    return run_at(Place(os.environ, Path(current_folder()), Path(home_folder())), arguments, terminal)


def run_at(place: Place, arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Runs the action that ``arguments`` name; returns the exit code.

    Raises:
        ConfigurationError: ACODE-VLM-010 or 024.
        StateFolderError: ACODE-VLM-029, where trust cannot be recorded.
    """
    match arguments.action:
        case "show":
            return _show(place, arguments, terminal)
        case "check":
            return _check(place, arguments, terminal)
        case "trust":
            return _trust(place, terminal)
        case "schema":
            return _schema(terminal)
        case _:
            return _init(place, terminal, force=arguments.force)


def _load(place: Place, arguments: argparse.Namespace, *, only_to_show: bool = False) -> Configuration:
    from acode_vllm.config.config import load

    return load(vars(arguments), environ=place.environ, cwd=place.cwd, home=place.home, only_to_show=only_to_show)


def _with_chosen_model(configuration: Configuration, place: Place) -> Configuration:
    """The configuration with the model that ``set-model`` chose, where that is the one to be served."""
    from acode_vllm.config.configuration import Origin, Source
    from acode_vllm.config.remembered_model import model_to_serve
    from acode_vllm.records.service_folder import ServiceFolder
    from acode_vllm.vocabulary.options import MODEL_KEY

    folder = ServiceFolder.of({**place.environ, "HOME": str(place.home)}, configuration.options.port)
    model = model_to_serve(configuration, folder)
    if model == configuration.model:
        return configuration
    return replace(configuration, model=model, origins={**configuration.origins, MODEL_KEY: Origin(Source.CHOICE)})


def _show(place: Place, arguments: argparse.Namespace, terminal: Terminal) -> int:
    configuration = _with_chosen_model(_load(place, arguments, only_to_show=True), place)
    if arguments.json:
        terminal.print(json.dumps(configuration_data(configuration), indent=2))
        return 0
    from acode_vllm.config.settings_docs import plain_value
    from acode_vllm.vocabulary.safe_text import printable, show

    redactor = configuration.secrets.redactor
    rows = [
        (key, show(plain_value(configuration.value(key)), redactor), printable(str(origin)))
        for key, origin in configuration.origins.items()
    ]
    rows += [(name, "set" if known else "not set", "") for name, known in _secrets_set(configuration).items()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for key, value, origin in rows:
        terminal.print(f"{key:<{widths[0]}}  {value:<{widths[1]}}  {origin}".rstrip())
    _say_sources(configuration, terminal)
    return 0


def configuration_data(configuration: Configuration) -> dict[str, object]:
    """Every setting with its origin as JSON data, without secrets."""
    from acode_vllm.config.settings_docs import plain_value

    settings = {
        key: {
            "value": _redacted(plain_value(configuration.value(key)), configuration.secrets.redactor),
            "source": origin.source.value,
            "name": origin.name or None,
            "line": origin.line,
        }
        for key, origin in configuration.origins.items()
    }
    files = [str(path) for path in configuration.sources]
    return {
        "settings": settings,
        "secrets_set": _secrets_set(configuration),
        "files": files,
        "warnings": list(configuration.warnings),
    }


def _redacted(value: object, redactor: Redactor) -> object:
    if isinstance(value, dict):
        return {name: _redacted(item, redactor) for name, item in value.items()}
    if isinstance(value, list):
        return [_redacted(item, redactor) for item in value]
    return redactor.redact(value) if isinstance(value, str) else value


def _secrets_set(configuration: Configuration) -> dict[str, bool]:
    secrets = configuration.secrets
    return {"HF_TOKEN": secrets.hf_token is not None, "VLLM_API_KEY": secrets.api_key is not None}


def _check(place: Place, arguments: argparse.Namespace, terminal: Terminal) -> int:
    configuration = _load(place, arguments)
    terminal.print("OK: the configuration is valid.")
    _say_sources(configuration, terminal)
    return 0


def _say_sources(configuration: Configuration, terminal: Terminal) -> None:
    from acode_vllm.vocabulary.safe_text import printable

    files = ", ".join(printable(str(path)) for path in configuration.sources)
    terminal.say(f"Read: {files}" if files else "No configuration file; the defaults apply.")
    for warning in configuration.warnings:
        terminal.warn(printable(warning, 100_000))


def _trust(place: Place, terminal: Terminal) -> int:
    from acode_vllm.config.config_files import read_config_file
    from acode_vllm.config.config_places import FileRole, project_path
    from acode_vllm.config.section_reading import note_faults, read_file_values
    from acode_vllm.config.trust import remember, risky_values, shown_risks, trust_store
    from acode_vllm.config.validation import MistakeList
    from acode_vllm.vocabulary.redaction import Redactor, secret_values
    from acode_vllm.vocabulary.safe_text import printable

    found = project_path(str(place.cwd))
    file = read_config_file(FileRole.PROJECT, found) if found is not None else None
    if file is None:
        raise _error(f"There is no .agent/config.yml in {place.cwd} or above it up to the repository's root.")
    redactor = Redactor(secret_values(place.environ))
    mistakes = MistakeList(redactor)
    note_faults(file, mistakes)
    risks = risky_values(file, read_file_values(file, mistakes, place.home))
    # What is wrong may be what is shown wrongly: nothing is trusted that was not read whole.
    mistakes.raise_if_any()
    name = printable(str(file.path))
    if not risks:
        terminal.print(f"{name} sets nothing that needs trust.")
        return 0
    store = trust_store(place.environ, place.home)
    remember(store, file.path, file.digest)
    terminal.print(f"Trusted, until it changes: {name}")
    for line in shown_risks(risks, redactor):
        terminal.print(f"  {line}")
    terminal.say(f"Recorded in {printable(str(store))} (SHA-256 {file.digest}).")
    return 0


def _init(place: Place, terminal: Terminal, *, force: bool) -> int:
    from acode_vllm.config.config_places import PROJECT_FILE, repository_root
    from acode_vllm.config.settings_docs import config_template

    path = Path(repository_root(str(place.cwd)) or place.cwd) / PROJECT_FILE
    if os.path.lexists(path) and not force:
        raise _error(
            f"{path} already exists and was left as it is.",
            "Edit it, move it away, or replace it: acode config init --force.",
        )
    try:
        path.parent.mkdir(exist_ok=True)
        # "x": what another program wrote in between is not overwritten either.
        with open(path, "w" if force else "x", encoding="utf-8") as file:
            file.write(config_template())
    except OSError as error:
        raise _error(f"{path} cannot be written: {error.strerror}.") from error
    terminal.print(f"Wrote {path}")
    return 0


def _schema(terminal: Terminal) -> int:
    from acode_vllm.config.settings_docs import config_json_schema

    terminal.print(json.dumps(config_json_schema(), indent=2))
    return 0


def _error(message: str, remedy: str = "See: acode config --help.") -> Exception:
    from acode_vllm.vocabulary.safe_text import printable

    return error_for(Problem("ACODE-VLM-010", printable(message, 1000), remedy))
