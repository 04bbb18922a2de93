"""Sudden deaths around a real vLLM: of its keeper, of each of its processes, of a start. `make test-faults` has more.

``FAULT_REPEAT`` is at how many moments of a start it is stopped, and interrupted; ``FAULT_SEED`` repeats a run.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
import requests
from leaks import shared_memory_left, shared_memory_names
from real_runs import ANSWER, HELLO, PROMPT, WAIT, Listener, owned, status_of, succeed, tree_of
from real_service import RealService

from acode_vllm import VllmProvider, VllmServiceOrchestrator
from acode_vllm.records.journal import Journal
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.vocabulary.errors import VllmServiceError
from acode_vllm.vocabulary.events import Event, LoadProgressed, ServerEnded, ServerStarted
from acode_vllm.vocabulary.history import History
from acode_vllm.vocabulary.loading import LoadStage
from acode_vllm.vocabulary.states import ServiceState
from acode_vllm.workers.machine.process_tree import ProcessTree
from acode_vllm.workers.machine.shared_memory import FOLDER, files_used_by
from acode_vllm.workers.machine.tree_stop import KILL_WAIT_SECONDS

MOMENTS = int(os.environ.get("FAULT_REPEAT", "1"))
SEED = int(os.environ.get("FAULT_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
PROCESSES = ("API server", "EngineCore", "Worker")
START_SECONDS = 30.0
"""The moments of a start lie within this time; where the machine is slower, within its first part."""

pytestmark = pytest.mark.timeout(1200 + 120 * MOMENTS)


class Stream:
    """Requests without end, with no retry of anybody's, on a thread of its own."""

    def __init__(self, url: str) -> None:
        self.answered = 0
        self.failures: list[str] = []
        self._url = url
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def wait_for(self, more: int) -> None:
        """Wait until so many more were answered."""
        with self._changed:
            until = self.answered + more
            assert self._changed.wait_for(lambda: self.answered >= until or self.failures, WAIT)

    def end(self) -> None:
        """Finish the last one."""
        self._ended = True
        self._thread.join(WAIT)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        body = {"model": HELLO, "temperature": 0, "messages": [{"role": "user", "content": PROMPT}]}
        with requests.Session() as session:
            session.trust_env = False
            while not self._ended:
                try:
                    with session.post(f"{self._url}/chat/completions", json=body, timeout=60) as answer:
                        answer.raise_for_status()
                        text = answer.json()["choices"][0]["message"]["content"]
                        failure = "" if text == ANSWER else text
                except (requests.RequestException, LookupError, ValueError) as error:
                    failure = repr(error)
                with self._changed:
                    self.answered += 1
                    self.failures += [failure] if failure else []
                    self._changed.notify_all()


@contextmanager
def streams(url: str, count: int) -> Iterator[list[Stream]]:
    made = [Stream(url) for _ in range(count)]
    try:
        yield made
    finally:
        for stream in made:
            stream.end()


@pytest.mark.spec("NFR-011")
def test_a_keeper_killed_under_a_stream_of_requests_costs_not_one_of_them(
    real_service: RealService, caplog: pytest.LogCaptureFixture
) -> None:
    listener = Listener()
    try:
        succeed(real_service, "providers", "start", "vllm")
        before = status_of(real_service)
        keeper, server = int(str(before["watched_by"])), int(str(before["pid"]))
        with VllmServiceOrchestrator(HELLO, real_service.options, environ=real_service.environ) as vllm:
            vllm.subscribe(listener)
            with VllmProvider(vllm) as provider, streams(vllm.base_url, 3) as asking:
                assert provider.chat([{"role": "user", "content": PROMPT}], temperature=0).text == ANSWER
                asking[0].wait_for(20)
                os.kill(keeper, signal.SIGKILL)
                while not [e for e in listener.events if isinstance(e, ServerStarted) and e.adopted]:
                    # Until its death is heard, the dead keeper's word still vouches for the server.
                    assert provider.chat([{"role": "user", "content": PROMPT}], temperature=0).text == ANSWER
                asking[0].wait_for(20)
            assert [stream.failures for stream in asking] == [[], [], []]
            assert "request failed" not in caplog.text, "nor was one sent twice"
            assert vllm.ensure_healthy(timeout=WAIT).pid == server
        events = [entry.event for entry in history(real_service)]
        assert "adopted" in events
        assert "ended" not in events
    finally:
        succeed(real_service, "providers", "stop", "vllm")


def _is_first_sign(event: Event) -> bool:
    return isinstance(event, LoadProgressed) and event.progress.stage is LoadStage.FIRST_SIGN


class Tree:
    """The processes of one server, and the shared memory that they use."""

    def __init__(self, vllm: VllmServiceOrchestrator) -> None:
        status = vllm.status()
        assert status.pid is not None
        self.pid = status.pid
        self.members = tree_of(status.pid)
        self.files = files_used_by(member.pid for member in self.members)

    def find(self, kind: str) -> psutil.Process | None:
        """The process of this kind; None where there is none yet."""
        if kind == "API server":
            return self.members[0]
        return next((p for p in self.members[1:] if f"VLLM::{kind}" in _title(p)), None)

    def left(self) -> list[str]:
        """What is there of it still."""
        processes = [str(p) for p in self.members if p.is_running() and _title(p)]
        return processes + [file.name for file in self.files if (FOLDER / file.name).exists()]


class Deaths:
    """Kills one process of a service, and waits until it is served again, or loads again."""

    def __init__(self, service: RealService, vllm: VllmServiceOrchestrator, listener: Listener) -> None:
        self.service, self.vllm, self.listener = service, vllm, listener

    def wait_for(self, kind: str) -> Tree:
        """The tree, once it has a process of this kind; each line of its log is a moment to look."""
        looks = 0
        while True:
            tree = Tree(self.vllm)
            if tree.find(kind) is not None:
                return tree
            looks += 1
            heard = len(self._heard(LoadProgressed))
            assert looks < 200, f"no {kind}"
            self.listener.wait(lambda event: isinstance(event, LoadProgressed), heard + 1)

    def kill(self, kind: str) -> None:
        """End it by SIGKILL; returns when another server was started, and what was left of the first is gone."""
        tree = self.wait_for(kind)
        ended, started = len(self._heard(ServerEnded)), len(self._heard(ServerStarted))
        victim = tree.find(kind)
        assert victim is not None
        victim.kill()
        self.listener.wait(lambda event: isinstance(event, ServerEnded), ended + 1)
        assert tree.left() == [], f"after the death of the {kind}"
        assert self._heard(ServerEnded)[-1].pid == tree.pid
        self.listener.wait(lambda event: isinstance(event, ServerStarted), started + 1)

    def _heard(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.listener.events if isinstance(event, kind)]


@pytest.mark.spec("FR-032", "NFR-011", "NFR-016")
def test_a_death_of_any_process_during_loading_starts_it_again_and_leaves_nothing(real_service: RealService) -> None:
    listener = Listener()
    with owned(real_service, listen=listener, max_restarts_per_minute=10) as vllm:
        with _waiting(vllm) as outcome:
            # A forked vLLM that dies before its first sign is started plainly at once: tests/warm shows that.
            listener.wait(_is_first_sign)
            deaths = Deaths(real_service, vllm, listener)
            for kind in PROCESSES:
                deaths.kill(kind)
        assert outcome == [ServiceState.RUNNING], "who waited has not noticed"
    told = [entry for entry in history(real_service) if entry.event == "ended" and not entry.fields["asked"]]
    assert len(told) == len(PROCESSES)
    assert "SIGKILL" in told[0].fields["exit"]
    assert all(entry.fields["code"].startswith("ACODE-VLM-") for entry in told)


@pytest.mark.skipif(MOMENTS == 1, reason="a part of make test-faults: each is shown by test_main_job and test_recovery")
def test_a_death_of_any_process_while_serving_is_mended_and_leaves_nothing(real_service: RealService) -> None:
    listener = Listener()
    with owned(real_service, listen=listener, max_restarts_per_minute=10) as vllm, VllmProvider(vllm) as provider:
        for number, kind in enumerate(PROCESSES, 1):
            vllm.ensure_healthy(timeout=WAIT)
            Deaths(real_service, vllm, listener).kill(kind)
            listener.wait_running(number + 1)
            assert provider.chat([{"role": "user", "content": PROMPT}], temperature=0).text == ANSWER
    entries = history(real_service)
    assert [e.event for e in entries].count("restarted") == len(PROCESSES)
    assert len([e for e in entries if e.event == "ended" and not e.fields["asked"]]) == len(PROCESSES)


@pytest.mark.spec("NFR-016", "NFR-011")
def test_a_stop_at_any_moment_of_a_start_leaves_nothing(real_service: RealService) -> None:
    print(f"FAULT_SEED={SEED}")
    with owned(real_service) as vllm:
        for moment in _moments("stop"):
            before = shared_memory_names()
            with _waiting(vllm) as outcome:
                _let_pass(moment)
                began = time.monotonic()
                report = vllm.stop(timeout=60)
                took = time.monotonic() - began
            assert report.remaining == ()
            assert took < _limit(real_service), f"{took:.1f} s, at {moment:.2f} s of a start"
            assert _left(real_service, before) == [], f"at {moment:.2f} s of a start"
            assert outcome[0] in ("ACODE-VLM-022", ServiceState.RUNNING), "it was told"
            print(f"stopped at {moment:5.2f} s: {report.method}, {took:.1f} s")


def test_ctrl_c_at_any_moment_of_a_start_leaves_nothing(real_service: RealService) -> None:
    print(f"FAULT_SEED={SEED}")
    for moment in _moments("Ctrl-C"):
        before = shared_memory_names()
        with subprocess.Popen(
            [sys.executable, "-m", "acode_vllm.cli.main", "ask", PROMPT],
            env={**real_service.environ, "PYTHONSAFEPATH": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as command:
            _let_pass(moment)
            command.send_signal(signal.SIGINT)
            began = time.monotonic()
            out, err = command.communicate(timeout=WAIT)
            took = time.monotonic() - began
        if command.returncode == 0:  # it was faster: answered, and the server kept on purpose
            assert out.strip() == ANSWER
            succeed(real_service, "providers", "stop", "vllm")
        else:
            assert command.returncode == 130, (moment, err)
            assert "Traceback" not in err, (moment, err)
            assert took < _limit(real_service), f"{took:.1f} s, at {moment:.2f} s of a start"
        assert _left(real_service, before) == [], f"at {moment:.2f} s of a start"
        print(f"interrupted at {moment:5.2f} s: {took:.1f} s")


def _moments(what: str) -> list[float]:
    """Random moments, one in each of as many equal parts of a start."""
    chance = random.Random(f"{SEED} {what}")
    return [START_SECONDS * (part + chance.random()) / MOMENTS for part in range(MOMENTS)]


def _let_pass(seconds: float) -> None:
    """Wait for a moment, not for anything to have happened by then."""
    threading.Event().wait(seconds)


def _limit(service: RealService) -> float:
    """How long an end may take: SIGTERM, SIGKILL, and what a busy machine adds."""
    return service.options.stop_timeout_seconds + KILL_WAIT_SECONDS + 5.0


def history(service: RealService) -> list[object]:
    return History(service.folder / "history.jsonl").read()


def _left(service: RealService, before: frozenset[str]) -> list[str]:
    """Processes that carry the mark of the last tree, and names in /dev/shm that were not there before."""
    status, _, _ = Journal(ServiceFolder(service.folder)).found()
    mark = status.mark if status is not None else None
    processes = [str(member) for member in ProcessTree((mark,)).alive()] if mark else []
    return processes + shared_memory_left(before)


@contextmanager
def _waiting(vllm: VllmServiceOrchestrator) -> Iterator[list[object]]:
    """Somebody waits for the server on another thread, until the end; gives what came of it."""
    outcome: list[object] = []

    def wait() -> None:
        try:
            outcome.append(vllm.ensure_healthy(timeout=4 * WAIT).state)
        except VllmServiceError as error:
            outcome.append(error.code)

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield outcome
    finally:
        thread.join(5 * WAIT)
        assert not thread.is_alive()


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
