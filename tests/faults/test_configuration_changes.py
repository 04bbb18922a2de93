"""The configuration is edited while a host program, or a keeper, runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from keepers import Acode, end
from service_fixtures import MakeService

from acode_vllm import VllmServiceOrchestrator
from acode_vllm.config.remembered_model import remember_model
from acode_vllm.records.record import load_record
from acode_vllm.vocabulary.errors import NotHealthyError
from acode_vllm.vocabulary.events import Event, HealthChecked, ServerEnded, WarningRaised
from acode_vllm.vocabulary.states import LifecycleMode, ServiceState

WAIT = 40.0


@pytest.fixture
def acode(tmp_path: Path, model: str, port: int, monkeypatch: pytest.MonkeyPatch) -> Acode:
    """The configuration file that this process and its commands go by."""
    command = Acode(tmp_path, model, port)
    command.write()
    monkeypatch.setenv("ACODE_CONFIG", str(command.config))
    return command


@pytest.fixture
def host(acode: Acode, service: MakeService) -> Iterator[VllmServiceOrchestrator]:
    """A program that read the configuration once, long ago."""
    with VllmServiceOrchestrator.from_configuration() as vllm:
        yield vllm


class Heard:
    """Waits for events of one kind."""

    def __init__(self, vllm: VllmServiceOrchestrator, kind: type[Event]) -> None:
        self.events: list[Event] = []
        self._kind = kind
        self._condition = threading.Condition()
        vllm.subscribe(self._hear)

    def wait_for(self, text: str, count: int = 1) -> None:
        with self._condition:
            assert self._condition.wait_for(lambda: sum(text in str(e) for e in self.events) >= count, WAIT), (
                self.events
            )

    def _hear(self, event: Event) -> None:
        if isinstance(event, self._kind):
            with self._condition:
                self.events.append(event)
                self._condition.notify_all()


@pytest.mark.spec("FR-027")
def test_another_model_is_served_by_the_next_call(
    host: VllmServiceOrchestrator, acode: Acode, other_model: str
) -> None:
    first = host.ensure_healthy(timeout=WAIT)
    acode.write(model=other_model)
    second = host.ensure_healthy(timeout=WAIT)
    assert (second.model, second.pid != first.pid) == (other_model, True)


def test_what_set_model_chose_is_served_by_the_next_call(
    host: VllmServiceOrchestrator, acode: Acode, model: str, other_model: str
) -> None:
    host.ensure_healthy(timeout=WAIT)
    remember_model(acode.folder, other_model, model)
    assert host.ensure_healthy(timeout=WAIT).model == other_model
    acode.write(model=other_model + "/")  # the file's own model changes: then the file's is the later wish
    acode.write(model=model)
    assert host.model == other_model, "nothing is read before it is needed"


def test_how_often_it_is_checked_changes_while_it_runs(host: VllmServiceOrchestrator, acode: Acode) -> None:
    checks = Heard(host, HealthChecked)
    pid = host.ensure_healthy(timeout=WAIT).pid
    acode.write(lifecycle={"health_check_interval_seconds": 1})
    assert host.ensure_healthy(timeout=WAIT).pid == pid
    checks.wait_for("HealthChecked", len(checks.events) + 3)


def test_what_needs_a_restart_says_so_and_waits_for_it(host: VllmServiceOrchestrator, acode: Acode) -> None:
    warnings = Heard(host, WarningRaised)
    acode.write(max_model_len=512)
    first = host.ensure_healthy(timeout=WAIT)
    acode.write(max_model_len=1024, env={"COLOUR": "a-secret-colour"})
    assert host.ensure_healthy(timeout=WAIT).pid == first.pid
    warnings.wait_for("--max-model-len 512 is now 1024; environment COLOUR is another")
    assert "a-secret-colour" not in str(warnings.events)
    acode.write(lifecycle={"health_check_interval_seconds": 50})
    host.ensure_healthy(timeout=WAIT)
    second = host.restart(timeout=WAIT)
    assert second.pid != first.pid
    arguments = psutil.Process(second.pid).cmdline()
    assert arguments[arguments.index("--max-model-len") + 1] == "1024"
    assert len([e for e in warnings.events if "--max-model-len" in str(e)]) == 1, "it is said once"


def test_a_crash_is_mended_with_the_new_settings(host: VllmServiceOrchestrator, acode: Acode) -> None:
    first = host.ensure_healthy(timeout=WAIT)
    acode.write(max_model_len=1024)
    host.ensure_healthy(timeout=WAIT)
    ended = Heard(host, ServerEnded)
    psutil.Process(first.pid).kill()
    ended.wait_for("ServerEnded")
    second = host.ensure_healthy(timeout=WAIT)
    assert "1024" in psutil.Process(second.pid).cmdline()


@pytest.mark.spec("FR-003")
def test_a_change_of_the_mode_holds_from_the_next_call_on(host: VllmServiceOrchestrator, acode: Acode) -> None:
    warned = Heard(host, HealthChecked)
    pid = host.ensure_healthy(timeout=WAIT).pid
    acode.write(lifecycle={"mode": "monitored"})
    assert host.ensure_healthy(timeout=WAIT).state is ServiceState.RUNNING
    assert host.mode is LifecycleMode.MONITORED
    with pytest.raises(NotHealthyError):
        host.restart()
    assert psutil.pid_exists(pid or 0), "it was let go of, and not ended"
    warned.wait_for("HealthChecked", 2)  # who listened before still does
    acode.write(lifecycle={"mode": "external"})
    assert host.ensure_healthy().reason.startswith("external mode")
    acode.write(lifecycle={"mode": "managed"})
    assert host.ensure_healthy(timeout=WAIT).pid == pid, "and taken over again"


def test_a_file_with_a_mistake_changes_nothing_until_it_is_mended(
    host: VllmServiceOrchestrator, acode: Acode, other_model: str, caplog: pytest.LogCaptureFixture
) -> None:
    pid = host.ensure_healthy(timeout=WAIT).pid
    acode.config.write_text("providers: {vllm: {port: nonsense}}")
    with caplog.at_level(logging.ERROR):
        assert host.ensure_healthy(timeout=WAIT).pid == pid
        host.ensure_healthy(timeout=WAIT)
    assert caplog.text.count("what was read before still holds") == 1
    acode.write(model=other_model)
    assert host.ensure_healthy(timeout=WAIT).model == other_model


@pytest.mark.slow
def test_a_keeper_tells_the_command_what_waits_for_a_restart(acode: Acode, service: MakeService) -> None:
    acode.succeed("providers", "start", "vllm")
    first = acode.status()
    acode.write(max_model_len=1024)
    done = acode.run("providers", "start", "vllm")
    assert acode.status()["pid"] == first["pid"]
    assert done.returncode == 0, done.stderr
    history = acode.succeed("providers", "history", "vllm", "--json")
    assert "--max-model-len 1024 is new" in history
    acode.succeed("providers", "restart", "vllm")
    assert "1024" in psutil.Process(acode.status()["pid"]).cmdline()
    acode.succeed("providers", "stop", "vllm")
    record = load_record(acode.folder.record)
    assert record is not None
    end(record.owner.pid)
