"""Each way in which a real vLLM fails to start, to load or to stay up: one message, and no second try in vain."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from acode_command import STARTED, Said
from own_services import OwnService, side_by_side
from real_runs import ANSWER, HELLO, OTHER, PROMPT
from real_service import RealService, RealVllm

WEIGHTS = "model.safetensors"
QUICK_SECONDS = 8.0
"""What the preflight finds is told in a second; the command's own start, on a busy machine, is the rest."""

LONG = 1_000_000
"""Tokens of a context that does not fit: on a CPU the cache of the tests is 1 GiB."""

WORKER = "its process (?:VllmWorker-0|EngineCore)"
"""On a single GPU it works within the engine's process."""

DEADLY = "execute this and die " * 20
CRASHING = '''
import os
import signal

from vllm.platforms import current_platform

if current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker as Base
else:
    from vllm.v1.worker.gpu_worker import Worker as Base


class CrashingWorker(Base):
    """Dies of each request that is longer than a health check's."""

    def execute_model(self, scheduler_output, *arguments, **named):
        if any(len(request.prompt_token_ids) > 200 for request in scheduler_output.scheduled_new_reqs):
            os.kill(os.getpid(), signal.SIGILL)
        return super().execute_model(scheduler_output, *arguments, **named)
'''


@dataclass(frozen=True)
class Case:
    """One way to fail.

    Attributes:
        name: In words.
        code: What the user is told.
        cause: A part of the message.
        remedy: A part of what to do.
        evidence: A part of what proves it; empty where the message says it all.
        changes: To ``providers.vllm``.
        happens: To the model's folder.
        device: Where it happens; empty for everywhere.
    """

    name: str
    code: str
    cause: str
    remedy: str
    evidence: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)
    happens: Callable[[Path], object] = lambda folder: None
    device: str = ""


def _truncate(folder: Path) -> None:
    weights = folder / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1000])


def _swap_types(folder: Path) -> None:
    """Damage inside of the header: the file has its right size, and no tensor its own."""
    weights = folder / WEIGHTS
    weights.write_bytes(weights.read_bytes().replace(b'"dtype":"F32"', b'"dtype":"F64"'))


def _stretch(folder: Path) -> None:
    """A model with a context whose KV cache takes 2 GiB."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": LONG}), encoding="utf-8")


def _remove_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _remove_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def _remove_folder(folder: Path) -> None:
    shutil.rmtree(folder)


FOUND_BEFORE = (
    Case("weights cut off", "ACODE-VLM-025", "A file of the model", "Copy that file anew.", WEIGHTS, happens=_truncate),
    Case("damaged header", "ACODE-VLM-025", "a damaged header", "Copy that file anew.", WEIGHTS, happens=_swap_types),
    Case("no config.json", "ACODE-VLM-025", "config.json is missing", "Copy the model anew", happens=_remove_config),
    Case("no weights", "ACODE-VLM-025", "*.safetensors is missing", "Copy the model anew", happens=_remove_weights),
    Case("no folder", "ACODE-VLM-025", "There is no model folder", "Check the path.", happens=_remove_folder),
    Case(
        "context longer than the model's",
        "ACODE-VLM-026",
        "max_model_len 4096 is more than the model's own context of 2048 tokens.",
        "Set providers.vllm.max_model_len to 2048 or less",
        "config.json: max_position_embeddings is 2048",
        {"max_model_len": 4096},
    ),
    Case(
        "no vLLM",
        "ACODE-VLM-008",
        "/nowhere/vllm",
        "providers.vllm.command",
        changes={"command": ["/nowhere/vllm", "serve"]},
    ),
    Case(
        "no memory at all",
        "ACODE-VLM-010",
        "memory_utilization",
        "more than 0",
        changes={"gpu": {"memory_utilization": 0.0}},
    ),
    Case(
        "KV cache larger than the machine",
        "ACODE-VLM-006",
        "The KV cache of ",
        "Lower VLLM_CPU_KVCACHE_SPACE",
        changes={"env": {"VLLM_CPU_KVCACHE_SPACE": "100000"}},
        device="cpu",
    ),
)

FOUND_BY_VLLM = (
    Case(
        "KV cache too small for one context",
        "ACODE-VLM-026",
        f"The context of {LONG} tokens needs ",
        "Set providers.vllm.max_model_len to at most ",
        "larger than the available KV cache memory",
        {"max_model_len": LONG, "extra_args": ["--enforce-eager", "--kv-cache-memory-bytes", str(2**29)]},
        _stretch,
    ),
)


def own(service: RealService, place: Path, folder: Path, **changes: Any) -> OwnService:
    """A service of a copy of the model in ``folder``."""
    model = place / "model"
    shutil.copytree(folder, model)
    return OwnService.like(service, place / "service", {}, model=str(model), **changes)


def check_told(case: Case, said: Said) -> str:
    """The user is told this, once, in a form to act on; returns it."""
    assert said.code == 1, (case.name, said.all)
    assert said.out == "", case.name
    errors = list(re.finditer(r"^ACODE-VLM-", said.err, re.MULTILINE))  # a message may name the code of its cause
    assert len(errors) == 1, (case.name, said.err)
    told = said.err[errors[0].start() :]
    first, *rest = told.splitlines()
    assert first.startswith(f"{case.code}: "), (case.name, told)
    assert case.cause in first, (case.name, told)
    assert case.remedy in next(line for line in rest if line.startswith("  What to do: ")), (case.name, told)
    proof = [line for line in rest if line.startswith("  Evidence: ")]
    assert not case.evidence or case.evidence in proof[0], (case.name, told)
    assert "Traceback" not in said.err, case.name
    return told


@pytest.mark.spec("FR-050", "AC-042")
def test_what_can_be_known_before_is_told_at_once_and_nothing_is_started(
    real_service: RealService, real_vllm: RealVllm, tiny_models: Mapping[str, Path], tmp_path: Path
) -> None:
    for case in [case for case in FOUND_BEFORE if case.device in ("", real_vllm.device)]:
        service = own(real_service, tmp_path / case.name, tiny_models[HELLO], **case.changes)
        case.happens(tmp_path / case.name / "model")
        began = time.monotonic()
        said = service.acode("ask", PROMPT)
        took = time.monotonic() - began
        check_told(case, said)
        assert took < QUICK_SECONDS, f"{case.name}: {took:.1f} s"
        assert not service.log.exists(), f"{case.name}: vLLM was started"


@pytest.mark.timeout(900)
@pytest.mark.spec("FR-050", "AC-042", "ACODE-VLM-006")
def test_what_only_vllm_can_find_is_told_from_its_log_and_not_tried_again(
    real_service: RealService, real_vllm: RealVllm, tiny_models: Mapping[str, Path], tmp_path: Path
) -> None:
    def run(case: Case) -> None:
        service = own(real_service, tmp_path / case.name, tiny_models[HELLO], **case.changes)
        case.happens(tmp_path / case.name / "model")
        said = service.acode("ask", PROMPT)
        told = check_told(case, said)
        assert f"  Log: {service.log}" in told.splitlines(), case.name
        assert said.err.count(STARTED) == 1, f"{case.name}: tried again in vain"
        status = json.loads(service.acode("providers", "status", "vllm", "--json").out)
        assert (status["state"], status["pid"]) == ("Failed", None), case.name
        assert case.cause in status["reason"], case.name

    side_by_side(run, [case for case in FOUND_BY_VLLM if case.device in ("", real_vllm.device)])


@pytest.mark.spec("ACODE-VLM-005", "AC-005", "AC-036", "FR-043")
def test_a_port_that_is_lost_while_vllm_starts_is_told_with_who_took_it(
    real_service: RealService, tiny_models: Mapping[str, Path], tmp_path: Path
) -> None:
    service = own(real_service, tmp_path / "lost", tiny_models[HELLO])
    case = Case("lost", "ACODE-VLM-005", f"Port {service.port}", "VLLM_PORT", "")
    with socket.socket() as thief:
        said = service.acode("ask", PROMPT, once_started=lambda: _take(thief, service.port))
    told = check_told(case, said)
    assert re.search(rf"PID {os.getpid()} ", told), told
    assert said.err.count(STARTED) == 1, "tried again in vain"


def _take(thief: socket.socket, port: int) -> None:
    thief.bind(("127.0.0.1", port))
    thief.listen()


@contextmanager
def crashing(service: RealService, place: Path) -> Iterator[OwnService]:
    """A service whose worker dies at each long request, and that may be restarted once; stopped at the end."""
    (place / "modules").mkdir(parents=True)
    (place / "modules" / "crashing_worker.py").write_text(CRASHING, encoding="utf-8")
    options = service.options.server
    made = OwnService.like(
        service,
        place / "service",
        {"HF_HOME": service.environ["HF_HOME"], "HF_HUB_OFFLINE": "1"},
        env={**options.env, "PYTHONPATH": str(place / "modules")},
        extra_args=[*options.extra_args, "--worker-cls", "crashing_worker.CrashingWorker"],
        lifecycle={"max_restarts_per_minute": 1},
    )
    try:
        yield made
    finally:
        made.acode("providers", "stop", "vllm")


@pytest.mark.timeout(900)
@pytest.mark.spec("ACODE-VLM-005", "AC-005", "AC-036", "FR-043")
@pytest.mark.spec("FR-033", "AC-020", "AC-021", "AC-042", "AC-043", "AC-044")
def test_another_vllm_on_the_port_is_told_and_a_worker_that_dies_at_each_request_is_given_up_with_its_history(
    real_service: RealService, tmp_path: Path
) -> None:
    with crashing(real_service, tmp_path / "crashing") as service:
        said = service.acode("ask", PROMPT)
        assert (said.code, said.out.strip()) == (0, ANSWER), said.err
        status = json.loads(service.acode("providers", "status", "vllm", "--json").out)

        # Another user of this machine's port, with records of their own: to them it is a stranger's.
        environ = {"HF_HOME": real_service.environ["HF_HOME"], "HF_HUB_OFFLINE": "1"}
        stranger = OwnService.like(real_service, tmp_path / "stranger", environ, model=OTHER, port=service.port)
        began = time.monotonic()
        said = stranger.acode("ask", PROMPT)
        took = time.monotonic() - began
        told = check_told(
            Case("another vLLM", "ACODE-VLM-005", f"PID {status['pid']} ", f"vllm --port {service.port}"), said
        )
        assert f"--port {service.port}" in told, "its command line is shown"
        assert took < QUICK_SECONDS, f"{took:.1f} s"
        same = OwnService.like(real_service, tmp_path / "same", environ, port=service.port)
        said = same.acode("ask", PROMPT)
        assert (said.code, said.out.strip()) == (0, ANSWER), said.err

        said = service.acode("ask", DEADLY)
        case = Case("crash loop", "ACODE-VLM-011", "after 1 restart(s); 1 are allowed", "acode providers start vllm")
        told = check_told(case, said)
        # Whether vLLM's log says by which signal is a matter of moments inside of vLLM.
        assert re.search(rf"(The cause each time, ACODE-VLM-\d+: .*{WORKER}|Each time {WORKER} died; )", told), told
        assert re.search(rf"  Evidence: restart 1: vLLM ended: {WORKER} ", told), told
        assert "  Evidence: try 2: " in told, "the request was sent again after the restart"
        assert f"  Log: {service.log}" in told.splitlines(), told
        assert said.err.count(STARTED) == 1, "one restart, as allowed"
        history = service.acode("providers", "history", "vllm").out
        assert len(re.findall(WORKER, history)) >= 2, history
        again = service.acode("ask", PROMPT)
        check_told(case, again)
        assert STARTED not in again.err, "until somebody mends it, nothing is started"
