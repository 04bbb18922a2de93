"""A switch of the model under requests, and one to a model that cannot be loaded."""

from __future__ import annotations

import json
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from service_fixtures import MakeService
from standin import COMMAND

from acode_vllm import ServerOptions, VllmProvider, VllmServiceOrchestrator
from acode_vllm.provider.answers import Answer
from acode_vllm.vocabulary.errors import ModelNotFoundError, StreamInterruptedError, VllmServiceError
from acode_vllm.vocabulary.events import Event, WarningRaised
from acode_vllm.vocabulary.states import ServiceState

WAIT = 40.0


class Asking:
    """A request under way on another thread, so many tokens of 20 ms each; made once its first token was seen."""

    def __init__(self, provider: VllmProvider, tokens: int) -> None:
        begun = threading.Event()

        def ask() -> str:
            with provider.stream_completion("write", max_tokens=tokens, ignore_eos=True) as stream:
                text = ""
                for piece in stream.text:
                    text += piece
                    begun.set()
            return text

        self._pool = ThreadPoolExecutor(1)
        self.answer: Future[str] = self._pool.submit(ask)
        assert begun.wait(WAIT)

    def __enter__(self) -> Asking:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()


@pytest.mark.spec("FR-027", "AC-010")
def test_a_request_under_way_is_answered_before_the_model_is_switched(service: MakeService, other_model: str) -> None:
    vllm = service({"token_seconds": 0.02})
    first = vllm.ensure_healthy(timeout=WAIT)
    with VllmProvider(vllm) as provider, Asking(provider, tokens=100) as asking:
        status = vllm.ensure_healthy(other_model, timeout=WAIT)
        assert asking.answer.done(), "it was waited for"
        assert len(asking.answer.result()) > 0
    assert (status.model, status.pid != first.pid) == (other_model, True)
    warnings = [e.fields["message"] for e in vllm.history() if e.event == "warning"]
    assert not [text for text in warnings if "cut off" in text]


def test_requests_that_come_during_a_switch_wait_and_none_fails(
    service: MakeService, model: str, other_model: str, caplog: pytest.LogCaptureFixture
) -> None:
    vllm = service({"token_seconds": 0.02, "load_seconds": 0.3})
    vllm.ensure_healthy(timeout=WAIT)
    with VllmProvider(vllm) as provider, Asking(provider, tokens=50) as asking, ThreadPoolExecutor(9) as pool:
        switch = pool.submit(vllm.ensure_healthy, other_model, timeout=WAIT)
        late: list[Future[Answer]] = [pool.submit(provider.complete, "more", max_tokens=2) for _ in range(8)]
        assert switch.result(WAIT).model == other_model
        assert all(answer.result(WAIT).text for answer in late)
        asking.answer.result(WAIT)
    assert "request failed" not in caplog.text


def test_a_request_that_takes_longer_than_it_may_is_cut_off_with_a_warning(
    service: MakeService, other_model: str
) -> None:
    vllm, warned = service({"token_seconds": 0.02}, drain_timeout_seconds=0.5), threading.Event()

    def hear(event: Event) -> None:
        if isinstance(event, WarningRaised) and "1 request(s) were cut off after 0.5 s" in event.text:
            warned.set()

    vllm.subscribe(hear)
    vllm.ensure_healthy(timeout=WAIT)
    with VllmProvider(vllm) as provider, Asking(provider, tokens=2_000) as asking:
        assert vllm.ensure_healthy(other_model, timeout=WAIT).model == other_model
        with pytest.raises(StreamInterruptedError):
            asking.answer.result(WAIT)
    assert warned.wait(WAIT)


class TestGoingBack:
    """What was served before is served on, or again, and the caller has the error."""

    def test_from_a_model_that_is_not_there(self, service: MakeService, model: str) -> None:
        vllm = service()
        pid = vllm.ensure_healthy(timeout=WAIT).pid
        with pytest.raises(ModelNotFoundError) as caught:
            vllm.ensure_healthy("/no/such/folder", timeout=WAIT)
        assert f"{model} is still served" in caught.value.problem.evidence
        status = vllm.ensure_healthy(timeout=WAIT)
        assert (status.state, status.model, status.pid) == (ServiceState.RUNNING, model, pid), "it was not touched"

    def test_from_a_model_that_vllm_does_not_load(
        self, service: MakeService, model: str, other_model: str, tmp_path: Path
    ) -> None:
        told = [
            "ValueError: User-specified max_model_len (8192) is greater than the derived max_model_len"
            " (max_position_embeddings=4096 or model_max_length=None in model's config.json)."
        ]
        faults = tmp_path / "faults.json"
        faults.write_text(json.dumps([{}, {"fail_lines": told, "fail_code": 1}, {}]))
        vllm = service(server=ServerOptions(command=(*COMMAND, "--standin", str(faults))))
        vllm.ensure_healthy(timeout=WAIT)
        with pytest.raises(VllmServiceError, match="context of 4096"):
            vllm.ensure_healthy(other_model, timeout=WAIT)
        self._served_again(vllm, model)
        events = [entry.event for entry in vllm.history()]
        assert "problem" in events, "the error stays to be read"

    @staticmethod
    def _served_again(vllm: VllmServiceOrchestrator, model: str) -> None:
        status = vllm.ensure_healthy(timeout=WAIT)
        assert (status.state, status.model) == (ServiceState.RUNNING, model)
        assert psutil.pid_exists(status.pid or 0)
        assert vllm.status().restart_count == 0
        reasons = [entry.fields.get("reason", "") for entry in vllm.history() if entry.event == "state"]
        assert any(reason.startswith(f"going back to {model}") for reason in reasons)
