"""Recoveries and loads, counted: N of N. `make count` counts sixty of each, and some on a real vLLM."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from control_harness import eventually
from service_fixtures import write_model
from standin import COMMAND, free_port

from acode_vllm import ServerOptions, VllmLifecycleOptions, VllmProvider, VllmServiceOrchestrator
from acode_vllm.vocabulary.states import ServiceState

RECOVERIES = int(os.environ.get("COUNT_RECOVERIES", "5"))
LOADS = int(os.environ.get("COUNT_LOADS", "4"))
AT_ONCE = 4
"""Services beside each other: each waits most of the time, for the 2 s before a restart."""
EACH = 10
"""Recoveries of one service: what its limit allows within 60 s of running time."""
WAIT = 40.0

pytestmark = pytest.mark.timeout(120 + 6 * (RECOVERIES + LOADS))

FAULTS = {"exit_delay": 0.1}
TRANSIENT = {"fail_lines": ["RuntimeError: CUDA error: an illegal memory access was encountered"], "fail_code": 1}
"""A start that fails in a way that the next one may not."""


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with ExitStack() as stack:
        yield Services(stack, tmp_path)


class Services:
    """Makes services on stand-in servers, each with a port and a model of its own; stops them in the end."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder

    def make(self, *starts: dict[str, object]) -> VllmServiceOrchestrator:
        """One whose starts have these faults, one after another."""
        port = free_port()
        faults = self._folder / f"{port}.json"
        faults.write_text(json.dumps([{**FAULTS, **start} for start in starts or ({},)]))
        options = VllmLifecycleOptions(
            port=port,
            server=ServerOptions(command=(*COMMAND, "--standin", str(faults))),
            max_restarts_per_minute=EACH,
            health_check_interval_seconds=1.0,
            engine_check_timeout_seconds=1.0,
        )
        vllm = VllmServiceOrchestrator(write_model(self._folder / f"one-{port}"), options)
        self._stack.enter_context(vllm)
        self._stack.callback(vllm.stop, timeout=30)
        return vllm


def _server(vllm: VllmServiceOrchestrator) -> psutil.Process:
    pid = vllm.status().pid
    assert pid is not None
    return psutil.Process(pid)


def _child(vllm: VllmServiceOrchestrator, title: str) -> psutil.Process:
    return next(p for p in _server(vllm).children(recursive=True) if p.cmdline()[0].startswith(title))


def _break(vllm: VllmServiceOrchestrator, number: int) -> None:
    """Each way in which it can fail, in turn."""
    match number % 5:
        case 0:
            _server(vllm).kill()
        case 1:
            _child(vllm, "VLLM::EngineCore").kill()
        case 2:
            _child(vllm, "VLLM::Worker").kill()
        case 3:
            _server(vllm).terminate()
        case 4:
            _child(vllm, "VLLM::EngineCore").suspend()


def _wait_for_another(vllm: VllmServiceOrchestrator, pid: int | None) -> None:
    """Wait until this server is gone: after SIGTERM, it may still answer while it ends."""
    eventually(lambda: vllm.status().pid != pid, WAIT)


def _recover(vllm: VllmServiceOrchestrator, first: int, count: int) -> list[str]:
    """Break it so many times; what did not recover."""
    failed = []
    with VllmProvider(vllm, timeout=WAIT) as provider:
        provider.complete("a", max_tokens=1)
        for number in range(first, first + count):
            before = vllm.status().pid
            _break(vllm, number)
            answer = provider.complete("a", max_tokens=1).text
            _wait_for_another(vllm, before)
            status = vllm.ensure_healthy(timeout=WAIT)
            if (answer, status.state, status.pid != before) != ("a", ServiceState.RUNNING, True):
                failed.append(f"{number}: {status}")
    if vllm.status().restart_count != count:
        failed.append(f"{vllm.status().restart_count} restarts instead of {count}")
    return failed


@pytest.mark.slow
@pytest.mark.spec("NFR-009")
def test_every_recovery_succeeds(services: Services) -> None:
    share = min(EACH, -(-RECOVERIES // AT_ONCE))
    parts = [(first, min(share, RECOVERIES - first)) for first in range(0, RECOVERIES, share)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        failed = list(pool.map(lambda part: _recover(services.make(), *part), parts))
    assert [text for each in failed for text in each] == []
    print(f"{RECOVERIES} of {RECOVERIES} recoveries")


@pytest.mark.slow
@pytest.mark.spec("NFR-012")
def test_every_load_succeeds_and_one_that_fails_once_succeeds_when_it_is_tried_again(
    services: Services, tmp_path: Path
) -> None:
    models = [write_model(tmp_path / "models" / str(number)) for number in range(LOADS)]

    def load(models: list[str]) -> int:
        """At the first try, one after another by one service."""
        vllm, loaded = services.make(), 0
        with VllmProvider(vllm, timeout=WAIT) as provider:
            for model in models:
                status = vllm.ensure_healthy(model, timeout=WAIT)
                assert provider.list_models() == [model]
                loaded += (status.state, status.model) == (ServiceState.RUNNING, model)
        assert vllm.status().restart_count == 0
        return loaded

    def load_again(count: int) -> int:
        """Each one at the second try, which nobody has to ask for."""
        vllm = services.make(*[TRANSIENT, {}] * count)
        loaded = 0
        for _ in range(count):
            loaded += vllm.start(timeout=WAIT).state is ServiceState.RUNNING
            assert vllm.status().restart_count == 1
            vllm.stop(timeout=WAIT)
        return loaded

    with ThreadPoolExecutor(AT_ONCE) as pool:
        first = [pool.submit(load, models[start::2]) for start in range(2)]
        again = [pool.submit(load_again, LOADS // 4) for _ in range(2)]
        assert sum(count.result() for count in first) == LOADS
        assert sum(count.result() for count in again) == LOADS // 4 * 2
    print(f"{LOADS} of {LOADS} loads, {LOADS // 4 * 2} of {LOADS // 4 * 2} at the second try")
