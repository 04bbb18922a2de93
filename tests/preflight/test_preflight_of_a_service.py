"""A whole service whose start is checked first: errors before anything is started, warnings to everybody."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from service_fixtures import MakeService, model, other_model, port, service

from acode_vllm import ServerOptions, VllmServiceOrchestrator
from acode_vllm.cli.screen.progress import StartProgress
from acode_vllm.cli.screen.terminal import Terminal
from acode_vllm.vocabulary.errors import VllmServiceError
from acode_vllm.vocabulary.events import Event, ServerStarted, WarningRaised
from acode_vllm.vocabulary.options import GpuOptions, VllmLifecycleOptions
from acode_vllm.vocabulary.states import ServiceState

__all__ = ["model", "other_model", "port", "service"]


@pytest.mark.spec("FR-042", "FR-050")
def test_what_stands_in_the_way_is_told_before_anything_is_started(port: int, tmp_path: Path) -> None:
    options = VllmLifecycleOptions(
        port=port, server=ServerOptions(command=(str(tmp_path / "vllm"),)), gpu=GpuOptions(memory_utilization=0.0)
    )
    events: list[Event] = []
    with VllmServiceOrchestrator("/nowhere/model", options, environ=os.environ) as vllm:
        vllm.subscribe(events.append)
        with pytest.raises(VllmServiceError) as refused:
            vllm.start(timeout=30)
        assert vllm.get_state() is ServiceState.FAILED
    assert refused.value.code == "ACODE-VLM-010"
    evidence = "\n".join(refused.value.problem.evidence)
    assert "also ACODE-VLM-008" in evidence
    assert "also ACODE-VLM-025" in evidence
    assert not any(isinstance(event, ServerStarted) for event in events)


def test_a_warning_reaches_listeners_log_history_and_the_person_at_the_terminal(
    service: MakeService, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    # Of a command that is no installation of vLLM nobody can say whether it needs a GPU, and here is none.
    vllm = service()
    if vllm.gpus().devices:
        pytest.skip("this machine has a GPU")
    events: list[Event] = []
    vllm.subscribe(events.append)
    with caplog.at_level(logging.WARNING, "acode_vllm.service"):
        vllm.start(timeout=30)
        vllm.close()
    [warning] = [event for event in events if isinstance(event, WarningRaised)]
    assert "No GPU was found" in warning.text
    assert [record.levelname for record in caplog.records if warning.text in record.message] == ["WARNING"]
    assert [entry.fields["message"] for entry in vllm.history() if entry.event == "warning"] == [warning.text]
    import sys

    StartProgress(Terminal(sys.stdout, sys.stderr))(warning)
    assert capsys.readouterr().err.startswith("Warning: No GPU was found")
