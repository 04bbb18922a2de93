"""The owner's side of the control socket: clients of every kind, and none that hurts."""

from __future__ import annotations

import json
import os
import random
import resource
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from control_fuzz import fuzz
from control_harness import DEADLINE, RawClient, open_owner, wanted

from acode_vllm.control import connection as control_connection
from acode_vllm.control import server as control_server
from acode_vllm.control.greeting import MAX_LINE, PROTOCOL
from acode_vllm.control.protocol import request_line
from acode_vllm.control.socket import listen, peer_of
from acode_vllm.service.local_service import LocalService
from acode_vllm.supervisor import WorkerRef, cast
from acode_vllm.vocabulary.codec import encode
from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.events import ProblemRaised
from acode_vllm.workers.messages.lifecycle_messages import EnsureHealthy

IN_TIME = 0.1
"""Seconds within which the owner answers whatever goes on (issue: under 100 ms)."""


def test_the_owner_greets_with_what_it_is(owner: LocalService) -> None:
    with RawClient(owner.folder.control) as client:
        hello = client.hello()
    assert hello["protocol"] == PROTOCOL
    assert hello["pid"] == os.getpid()
    assert hello["mode"] == "managed"
    assert hello["keeper"] is False


def test_nobody_but_the_user_can_reach_the_socket(owner: LocalService) -> None:
    found = os.stat(owner.folder.control)
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_uid == os.getuid()


def test_a_client_of_another_user_is_refused(owner: LocalService, monkeypatch: pytest.MonkeyPatch) -> None:
    # Only root can connect as somebody else; the kernel's word of the peer is what is changed here.
    monkeypatch.setattr(control_server, "peer_of", lambda connection: (1, os.getuid() + 1))
    with RawClient(owner.folder.control) as client:
        line = client.line()
        assert line is not None
        assert "another user" in line["problem"]["message"]
        assert client.line() is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_the_kernel_names_the_user_of_a_client() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name, listen(Path(name) / "sock") as listener:
        os.chmod(name, 0o755)
        os.chmod(f"{name}/sock", 0o666)
        script = f"""import os, socket
os.setuid(65534)
client = socket.socket(socket.AF_UNIX)
client.connect({name!r} + "/sock")
client.recv(1)"""
        with subprocess.Popen([sys.executable, "-c", script]) as client:
            listener.settimeout(DEADLINE)
            connection, _ = listener.accept()
            with connection:
                assert peer_of(connection) == (client.pid, 65534)


def test_the_socket_of_an_earlier_owner_is_replaced(owner: LocalService, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = owner.folder
    owner.close()
    monkeypatch.chdir(folder.control.parent)  # the whole path may be longer than an address can be
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(folder.control.name)
    assert folder.control.exists()
    again = open_owner()
    try:
        with RawClient(folder.control) as client:
            assert client.hello()["pid"] == os.getpid()
    finally:
        again.close()
    assert not folder.control.exists(), "an owner that ends in order takes its socket along"


def test_a_folder_with_a_long_path_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    monkeypatch.setenv("XDG_STATE_HOME", str(deep))
    owner = open_owner()
    try:
        with RawClient(owner.folder.control) as client:
            assert client.hello()["pid"] == os.getpid()
    finally:
        owner.close()


def test_the_status_is_answered_as_published(owner: LocalService, raw: RawClient) -> None:
    before = owner.status
    answer = raw.ask(do="status")["result"]
    # The tree has just begun, and may publish its first status meanwhile.
    assert answer in [{"kind": "ServiceStatus", "value": encode(status)} for status in (before, owner.status)]


def test_requests_sent_at_once_are_answered_in_their_order(raw: RawClient) -> None:
    raw.send(b"".join(json.dumps({"id": n, "do": "ping"}).encode() + b"\n" for n in range(500)))
    assert [(raw.line() or {}).get("id") for _ in range(500)] == list(range(500))


def test_a_request_without_an_id_is_not_answered(raw: RawClient) -> None:
    raw.send({"do": "ping"})
    raw.send({"do": "failure_seen", "with": {"reason": "502"}})
    assert raw.ask(id=9, do="ping")["id"] == 9


def test_a_subscriber_is_sent_status_and_events(owner: LocalService, raw: RawClient) -> None:
    raw.ask(do="subscribe")
    owner.raise_problem(_problem("look here"))
    line = raw.line()
    while line is not None and line.get("event") != "ProblemRaised":
        line = raw.line()
    assert line is not None
    assert line["value"]["problem"]["message"] == "look here"


def test_who_has_not_subscribed_is_sent_nothing(owner: LocalService, raw: RawClient) -> None:
    owner.raise_problem(_problem("look here"))
    raw.send({"id": 5, "do": "ping"})
    assert (raw.line() or {}).get("id") == 5


@pytest.mark.parametrize(("request_name", "kind"), [("sample", "GpuSample"), ("check", "HealthReport")])
def test_a_look_is_taken_on_demand_and_shared_for_five_seconds(raw: RawClient, request_name: str, kind: str) -> None:
    first = raw.ask(do=request_name)["result"]
    assert first["kind"] == kind
    assert raw.ask(do=request_name)["result"] == first


class TestBadInput:
    def test_it_is_answered_with_an_error_and_the_connection_goes_on(self, raw: RawClient) -> None:
        raw.send(b"what?\n")
        line = raw.line()
        assert line is not None
        assert line["problem"]["code"] == "ACODE-VLM-031"
        assert raw.ask(do="ping")["result"]["kind"] == "Pong"

    def test_empty_lines_are_passed_over(self, raw: RawClient) -> None:
        raw.send(b"\n\n  \n")
        assert raw.ask(do="ping")["result"]["kind"] == "Pong"

    def test_settings_that_vllm_cannot_be_started_with_are_refused(self, raw: RawClient) -> None:
        request = json.loads(request_line(1, EnsureHealthy(wanted("no good model id"), "t")))
        assert raw.ask(**request)["problem"]["code"] == "ACODE-VLM-010"

    def test_another_port_is_refused(self, raw: RawClient) -> None:
        request = json.loads(request_line(1, EnsureHealthy(wanted(port=8001), "t")))
        assert "8001" in raw.ask(**request)["problem"]["message"]

    def test_ten_thousand_malformed_messages_change_nothing(self, owner: LocalService) -> None:
        _fuzz(owner, 200)  # what grows once, grows now
        before = _memory()
        threads = threading.active_count()
        _fuzz(owner, 10_000)
        assert _memory() - before < 20 * 1024 * 1024
        assert threading.active_count() == threads
        assert owner.alive
        with RawClient(owner.folder.control) as client:
            client.hello()
            assert client.ask(do="status")["result"]["value"]["state"] == "Unknown"

    def test_a_line_that_is_too_long_ends_the_connection_with_the_reason(self, raw: RawClient) -> None:
        with suppress(BrokenPipeError):  # it may hang up before the last byte
            raw.send(b"x" * (MAX_LINE + 70_000))
        line = raw.line()
        assert line is not None
        assert str(MAX_LINE) in line["problem"]["message"]
        assert raw.line() is None

    def test_a_line_of_the_greatest_length_is_read(self, raw: RawClient) -> None:
        start = b'{"id":1,"do":"failure_seen","with":{"reason":"'
        raw.send(start + b"x" * (MAX_LINE - len(start) - 4) + b'"}}\n')
        assert (raw.line() or {})["result"]["kind"] == "Pong"

    def test_a_half_line_is_waited_for_no_longer_than_the_deadline(
        self, owner: LocalService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(control_connection, "PATIENCE_SECONDS", 0.2)
        with RawClient(owner.folder.control) as client:
            client.hello()
            client.send(b'{"id":1,')
            begun = time.monotonic()
            line = client.line()
            assert line is not None
            assert "did not end" in line["problem"]["message"]
            assert client.line() is None
        assert time.monotonic() - begun < DEADLINE / 2

    def test_a_line_in_pieces_is_one_line(self, raw: RawClient) -> None:
        for piece in (b'{"id":', b'1,"do":"pi', b'ng"}', b"\n"):
            raw.send(piece)
        assert (raw.line() or {})["result"]["kind"] == "Pong"


class TestManyAndSlowClients:
    def test_two_hundred_clients_are_answered_in_time(self, owner: LocalService) -> None:
        clients = [RawClient(owner.folder.control) for _ in range(200)]
        try:
            for client in clients:
                client.hello()
            taken = []
            for client in clients:
                begun = time.monotonic()
                assert client.ask(do="status")["result"]["kind"] == "ServiceStatus"
                taken.append(time.monotonic() - begun)
            assert _nearly_all(taken) < IN_TIME
            for client in clients:
                client.send({"id": 2, "do": "status"})
            assert all((client.line() or {}).get("id") == 2 for client in clients)
        finally:
            for client in clients:
                client.socket.close()

    def test_one_too_many_is_told_so(self, owner: LocalService, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(control_server, "MAX_CLIENTS", 2)
        with RawClient(owner.folder.control) as first, RawClient(owner.folder.control) as second:
            first.hello()
            second.hello()
            with RawClient(owner.folder.control) as third:
                line = third.line()
                assert line is not None
                assert line["problem"]["code"] == "ACODE-VLM-028"
                assert third.line() is None
            assert first.ask(do="ping")["result"]["kind"] == "Pong"
        with RawClient(owner.folder.control) as fourth:
            fourth.hello()

    def test_one_that_does_not_read_is_dropped_and_holds_nobody_up(self, owner: LocalService) -> None:
        with RawClient(owner.folder.control) as slow, RawClient(owner.folder.control) as other:
            slow.hello()
            other.hello()
            slow.ask(do="subscribe")
            event = ProblemRaised(0.0, _problem("x" * 50_000))
            taken = []
            for _ in range(100):
                owner.feed.put(event)
                begun = time.monotonic()
                assert other.ask(do="ping")["result"]["kind"] == "Pong"
                taken.append(time.monotonic() - begun)
            assert _nearly_all(taken) < IN_TIME
            while slow.line() is not None:
                pass

    def test_clients_that_come_and_go_leave_nothing(self, owner: LocalService) -> None:
        files = _open_files()
        for n in range(300):
            with RawClient(owner.folder.control) as client:
                if n % 3:
                    client.hello()
                if n % 3 == 2:
                    client.send({"id": 1, "do": "subscribe"})
        with RawClient(owner.folder.control) as client:
            client.hello()
            client.ask(do="ping")
            assert _open_files() - files <= 3  # this client, its other end, and one that is just being closed

    def test_without_descriptors_those_who_are_connected_go_on(self, owner: LocalService, raw: RawClient) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        waiting = socket.socket(socket.AF_UNIX)
        waiting.settimeout(DEADLINE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (_highest_file() + 1, hard))
        try:
            waiting.connect(os.path.relpath(owner.folder.control))
            assert raw.ask(do="ping")["result"]["kind"] == "Pong"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert b"hello" in waiting.recv(65536), "it is accepted once there is room again"
        waiting.close()


class TestBugsOfOurs:
    def test_a_crash_of_the_server_costs_the_connections_and_nothing_else(
        self, owner: LocalService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        control = _child(owner, "control")
        with RawClient(owner.folder.control) as client:
            client.hello()
            with monkeypatch.context() as patch:
                patch.setattr(control_server.ControlServer, "_receive", _raise)
                client.send({"id": 1, "do": "ping"})
                assert client.line() is None
                assert control.wait(DEADLINE) is not None
        assert owner._root is not None
        owner._root.which_children(DEADLINE)  # answered once it has dealt with the crash
        with RawClient(owner.folder.control) as client:
            client.hello()
            assert client.ask(do="ping")["result"]["kind"] == "Pong"

    def test_a_crash_of_the_lifecycle_worker_is_not_seen_by_who_waits(
        self, owner: LocalService, raw: RawClient
    ) -> None:
        lifecycle = _child(owner, "lifecycle")
        cast(lifecycle, object())  # what no worker understands is a bug
        assert raw.ask(do="reset_restarts")["result"]["kind"] == "ServiceStatus"


def _nearly_all(taken: list[float]) -> float:
    """The time within which 95 % were answered; a machine that is busy otherwise may delay a few."""
    return sorted(taken)[len(taken) * 95 // 100]


def _raise(*_: object) -> None:
    raise RuntimeError("a bug of ours")


def _problem(message: str) -> Problem:
    return Problem("ACODE-VLM-031", message)


def _child(owner: LocalService, name: str) -> WorkerRef:
    assert owner._root is not None
    ref = owner._root.whereis(name)
    assert ref is not None
    return ref


def _memory() -> int:
    return int(psutil.Process().memory_info().rss)


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def _highest_file() -> int:
    return max(int(name) for name in os.listdir("/proc/self/fd"))


def _fuzz(owner: LocalService, count: int) -> None:
    with RawClient(owner.folder.control) as client:
        client.hello()
        fuzz([client], count, random.Random(count))
