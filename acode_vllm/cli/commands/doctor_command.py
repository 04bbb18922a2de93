"""``acode doctor``: checks everything that a start needs, and packs a bug report."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from acode_vllm.cli.commands.config_command import configuration_data
from acode_vllm.cli.commands.session import open_session
from acode_vllm.cli.screen.doctor_text import errors_in, report_data, report_lines
from acode_vllm.cli.screen.terminal import Terminal
from acode_vllm.config.configuration import Configuration
from acode_vllm.records.recorded import recorded_service
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.report.bug_report import (
    check_path,
    machine_facts,
    redacted,
    redacted_file,
    telling_environment,
    write_bundle,
)
from acode_vllm.report.doctor import examine, versions
from acode_vllm.vocabulary.codec import encode
from acode_vllm.vocabulary.errors import ConfigurationError, VllmServiceError
from acode_vllm.vocabulary.options import DEFAULT_PORT
from acode_vllm.vocabulary.redaction import Redactor, secret_values
from acode_vllm.vocabulary.wanted import Wanted
from acode_vllm.workers.model.hub_client import find_token
from acode_vllm.workers.preflight.preflight import CONFIGURATION
from acode_vllm.workers.preflight.report import Finding, Level


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Run ``acode doctor``; returns the exit code.

    Raises:
        UnknownProviderError: ACODE-VLM-030.
        ConfigurationError: ACODE-VLM-010, where the bundle cannot be written.
    """
    bundle = Path(arguments.bundle) if arguments.bundle else None
    if bundle is not None:
        check_path(bundle)
    if terminal.is_interactive:
        terminal.say("Checking; importing vLLM takes some seconds...")
    examined = _examine(arguments, terminal)
    findings = examined.findings
    redactor = Redactor((*secret_values(os.environ), *examined.secrets))
    data = report_data(findings, versions(examined.wanted))
    if arguments.json:
        terminal.print(json.dumps(redacted(data, redactor.redact), indent=2))
    else:
        for line in report_lines(findings, plain=not terminal.paint.on):
            terminal.print(redactor.redact(line))
    if bundle is not None:
        lines = report_lines(findings, plain=True)
        write_bundle(bundle, _members(examined, {**data, "at": time.time()}, lines, redactor))
        terminal.say(f"Wrote {bundle}. Read through it before you share it.")
    return 1 if errors_in(findings) else 0


@dataclass(frozen=True)
class _Examined:
    """The findings, and the settings they hold for."""

    findings: tuple[Finding, ...]
    folder: ServiceFolder
    wanted: Wanted | None = None
    configuration: Configuration | None = None

    @property
    def secrets(self) -> tuple[str | None, ...]:
        """Secrets that must not be shown, besides those in variables of this process with telling names."""
        if self.wanted is None:
            return (find_token(os.environ),)
        environ = {**self.wanted.environ, **self.wanted.options.server.env}
        return (find_token(environ), self.wanted.api_key, *secret_values(environ))


def _examine(arguments: argparse.Namespace, terminal: Terminal) -> _Examined:
    try:
        session = open_session(arguments, replace(terminal, quiet=True))
    except ConfigurationError as error:
        port = str(arguments.port or os.environ.get("VLLM_PORT") or DEFAULT_PORT)
        folder = ServiceFolder.of(os.environ, int(port) if port.isascii() and port.isdigit() else DEFAULT_PORT)
        return _Examined((Finding.of(CONFIGURATION, error.problem),), folder)
    configuration = session.configuration
    sources = ", ".join(str(path) for path in configuration.sources)
    found = [Finding(CONFIGURATION, Level.OK, f"valid; {sources}" if sources else "no file; the defaults apply")]
    found += [Finding(CONFIGURATION, Level.WARNING, warning) for warning in configuration.warnings]
    model = session.known_model or configuration.model
    wanted = Wanted(model, configuration.options, os.environ, configuration.secrets.api_key)
    return _Examined((*found, *examine(wanted, session.folder)), session.folder, wanted, configuration)


def _members(
    examined: _Examined, report: Mapping[str, object], lines: list[str], redactor: Redactor
) -> Iterator[tuple[str, bytes]]:
    """The files of the bundle."""

    def as_json(data: object) -> bytes:
        return json.dumps(redacted(data, redactor.redact), indent=2).encode()

    yield "doctor.txt", redactor.redact("\n".join(lines) + "\n").encode()
    yield "doctor.json", as_json(report)
    yield "machine.json", as_json(machine_facts(examined.folder.path))
    yield "environment.json", as_json(telling_environment(os.environ, redactor))
    if examined.configuration is not None:
        yield "configuration.json", as_json(configuration_data(examined.configuration))
    try:
        service = recorded_service(examined.folder)
    except VllmServiceError as error:
        yield "status.txt", redactor.redact(str(error.problem)).encode()
    else:
        if service is not None:
            yield "status.json", as_json({"watched_by": service.owner_pid, "service": encode(service.status)})
    files = [examined.folder.history, *sorted(examined.folder.path.glob("*.log*"))]
    for path in files:
        content = redacted_file(path, redactor)
        if content is not None:
            yield path.name, content
