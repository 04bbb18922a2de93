"""``acode providers status``: fresh figures by the owner, every service, and the documented form."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import make_schemas
import pytest
from jsonschema import Draft202012Validator
from keepers import Acode
from service_fixtures import model, port, write_model
from standin import free_port

from acode_vllm.report.status_report import StatusReport

__all__ = ["model", "port"]
SCHEMAS = Path(__file__).resolve().parent.parent.parent / "docs" / "schemas"
STATUS = ("providers", "status", "vllm")


def made(folder: Path, name: str, port: int) -> Acode:
    folder.mkdir(exist_ok=True)
    command = Acode(folder, name, port)
    command.write()
    return command


def ended(command: Acode) -> None:
    command.end()


@pytest.fixture
def acode(tmp_path: Path, model: str, port: int) -> Iterator[Acode]:
    """The command with a server that runs; at the end it is stopped."""
    command = made(tmp_path / "first", model, port)
    command.succeed("providers", "start", "vllm")
    yield command
    ended(command)


def valid(document: Any) -> None:
    schema = json.loads((SCHEMAS / "status.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(document)


def test_the_documented_schema_is_that_of_what_is_printed() -> None:
    for name, kind in make_schemas.DOCUMENTS.items():
        written = (SCHEMAS / f"{name}.schema.json").read_text()
        assert written == make_schemas.text_of(kind), "run `make schemas`"


def test_each_field_of_the_report_is_described() -> None:
    schema = make_schemas.schema_of(StatusReport)
    assert [name for name, entry in schema["properties"].items() if not entry.get("description")] == []


@pytest.mark.spec("IT-007", "AC-032", "AC-033", "AC-035")
def test_figures_are_those_of_now_and_the_report_has_the_documented_form(acode: Acode) -> None:
    report = acode.status()
    valid(report)
    assert (report["state"], report["failed_checks"]) == ("Running", 0)
    assert report["health"] in ("healthy", "degraded"), "a machine may be slow"
    assert (report["requests_running"], report["requests_waiting"]) == (0, 0)
    assert (report["restarts_in_window"], report["restart_count"]) == (0, 0)
    assert report["watched_by"] == acode.owner()
    assert [part["part"] for part in report["service"]["last_check"]["parts"]] == [
        "process",
        "listener",
        "health",
        "models",
        "engine",
    ]
    # A minute passes from one check to the next; the owner took this one, or one less than 5 s ago, for us.
    assert report["ages_seconds"]["check"] < 20, "on a busy machine it may take its seconds to be printed"
    lines = acode.succeed(*STATUS).splitlines()
    assert lines[0] == f"Service: Running (PID {report['pid']})"
    assert lines[1].startswith("Uptime: ")
    assert lines[2] == f"Model: {report['model']}"
    assert any(line.startswith("Last health check: ") for line in lines)
    assert any(line.startswith("Requests: 0 running, 0 waiting") for line in lines)
    assert any(line.startswith("  process ") for line in lines)


def test_a_service_that_was_never_started_has_the_documented_form(tmp_path: Path, model: str, port: int) -> None:
    report = made(tmp_path / "one", model, port).status()
    valid(report)
    assert (report["state"], report["service"]) == ("Stopped", None)


@pytest.mark.slow
def test_an_owner_that_hangs_costs_a_moment_and_the_record_says_what_was_known(acode: Acode) -> None:
    os.kill(acode.owner(), signal.SIGSTOP)
    try:
        report = acode.status()
    finally:
        os.kill(acode.owner(), signal.SIGCONT)
    valid(report)
    assert report["state"] == "Running"
    assert report["ages_seconds"]["check"] >= 1.0, "it is shown with its age"


@pytest.mark.slow
def test_all_services_of_this_user_are_shown(acode: Acode, tmp_path: Path) -> None:
    other = made(tmp_path / "second", write_model(tmp_path / "models" / "two"), free_port())
    other.succeed("providers", "start", "vllm")
    try:
        reports = json.loads(acode.succeed("providers", "status", "--all", "--json"))
        for report in reports:
            valid(report)
        assert {report["port"]: report["pid"] for report in reports} == {
            acode.port: acode.status()["pid"],
            other.port: other.status()["pid"],
        }
        heading, *rows = acode.succeed("providers", "status", "--all").splitlines()
        assert heading.split()[:3] == ["PORT", "STATE", "PID"]
        assert [row.split()[:2] for row in rows] == [[str(p), "Running"] for p in sorted((acode.port, other.port))]
    finally:
        ended(other)


def test_a_user_without_services_is_told_so(tmp_path: Path, model: str, port: int) -> None:
    text = made(tmp_path / "one", model, port).succeed("providers", "status", "--all")
    assert text == "No service was ever started by this user.\n"
