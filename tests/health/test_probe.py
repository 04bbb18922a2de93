"""HTTP with a deadline for the whole exchange, a bounded body, and an interrupt."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from standin import StandIn

from acode_vllm.io.waits import Interrupt, Interrupted
from acode_vllm.workers.health.probe import MAX_BODY, BrokenError, Probe, RefusedError, SilentError


@pytest.fixture
def interrupt() -> Iterator[Interrupt]:
    switch = Interrupt()
    yield switch
    switch.close()


@pytest.fixture
def probe_of(interrupt: Interrupt) -> Iterator[Callable[[str], Probe]]:
    made: list[Probe] = []

    def make(url: str) -> Probe:
        made.append(Probe(url, interrupt=interrupt))
        return made[-1]

    yield make
    for probe in made:
        probe.close()


class Talker:
    """A server that sends what a test says, on as many connections as come, and then waits for the client's end."""

    def __init__(self, send: Callable[[socket.socket], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self._send = send
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                try:
                    connection.recv(65536)
                    self._send(connection)
                except OSError:
                    continue

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@pytest.fixture
def talker() -> Iterator[Callable[[Callable[[socket.socket], None]], Talker]]:
    made: list[Talker] = []

    def make(send: Callable[[socket.socket], None]) -> Talker:
        made.append(Talker(send))
        return made[-1]

    yield make
    for each in made:
        each.close()


def until_closed(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def test_a_server_that_drips_bytes_does_not_extend_the_deadline(
    probe_of: Callable[[str], Probe],
) -> None:
    with StandIn(drips={"/v1/models": 0.02}) as server:
        probe = probe_of(server.url)
        began = time.monotonic()
        with pytest.raises(SilentError, match=r"no answer within 0.3 s"):
            probe.get("/v1/models", 0.3)
        assert 0.28 < time.monotonic() - began < 1.0


def test_headers_without_end_are_cut_off(
    probe_of: Callable[[str], Probe], talker: Callable[[Callable[[socket.socket], None]], Talker]
) -> None:
    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            connection.sendall(b"x: y\r\n")

    with pytest.raises(BrokenError, match="headers"):
        probe_of(talker(flood).url).get("/health", 10.0)


def test_a_body_without_end_is_cut_off(
    probe_of: Callable[[str], Probe], talker: Callable[[Callable[[socket.socket], None]], Talker]
) -> None:
    def endless(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    with pytest.raises(BrokenError, match=f"more than {MAX_BODY} bytes"):
        probe_of(talker(endless).url).get("/metrics", 10.0)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", "without an answer"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "BadStatusLine"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "IncompleteRead"),
    ],
)
def test_what_is_no_http_answer_is_said_so(
    sent: bytes,
    reason: str,
    probe_of: Callable[[str], Probe],
    talker: Callable[[Callable[[socket.socket], None]], Talker],
) -> None:
    with pytest.raises(BrokenError, match=reason):
        probe_of(talker(lambda connection: connection.sendall(sent)).url).get("/health", 5.0)


def test_nobody_listening_is_told_apart_at_once(probe_of: Callable[[str], Probe]) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        probe = probe_of(f"http://127.0.0.1:{bound.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(RefusedError):
            probe.get("/health", 5.0)
        assert time.monotonic() - began < 0.1


def test_another_thread_ends_an_exchange_at_once_and_every_later_one(
    probe_of: Callable[[str], Probe],
    talker: Callable[[Callable[[socket.socket], None]], Talker],
    interrupt: Interrupt,
) -> None:
    asked = threading.Event()

    def silent(connection: socket.socket) -> None:
        asked.set()
        until_closed(connection)

    probe = probe_of(talker(silent).url)
    pressed: list[float] = []

    def press() -> None:
        assert asked.wait(10)
        pressed.append(time.monotonic())
        interrupt.press()

    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(Interrupted):
        probe.get("/health", 30.0)
    assert time.monotonic() - pressed[0] < 0.05
    presser.join()
    with pytest.raises(Interrupted):
        probe.get("/health", 30.0)


def test_the_interrupt_also_ends_a_connection_attempt_that_nobody_answers(
    probe_of: Callable[[str], Probe], interrupt: Interrupt
) -> None:
    with socket.socket() as full:
        # A listener whose queue is full drops the handshake: the client waits for it.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        probe = probe_of(f"http://127.0.0.1:{address[1]}")
        timer = threading.Timer(0.1, interrupt.press)
        timer.start()
        began = time.monotonic()
        with pytest.raises(Interrupted):
            probe.connect(30.0)
        assert time.monotonic() - began < 1.0
        timer.join()
        for filler in fillers:
            filler.close()


def test_the_proxies_of_the_environment_never_apply(
    probe_of: Callable[[str], Probe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with StandIn() as server:
        assert probe_of(server.url).get("/health", 5.0).status == 200


def test_a_connection_is_kept_and_one_that_the_server_has_closed_is_replaced(
    probe_of: Callable[[str], Probe], talker: Callable[[Callable[[socket.socket], None]], Talker]
) -> None:
    def twice(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        if connection.recv(65536):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    server = talker(twice)
    probe = probe_of(server.url)
    assert [probe.get("/health", 5.0).status for _ in range(2)] == [200, 200]
    assert server.connections == 1
    assert probe.get("/health", 5.0).status == 200
    assert server.connections == 2
    probe.close()


def test_the_api_key_is_sent_and_appears_in_no_error(interrupt: Interrupt) -> None:
    with StandIn(env={"VLLM_API_KEY": "s3cret"}) as server:
        probe = Probe(server.url, api_key="s3cret", interrupt=interrupt)
        assert probe.get("/v1/models", 5.0).status == 200
        probe.close()
        server.change(closes=["/health"])
        with pytest.raises(BrokenError) as caught:
            probe.get("/health", 5.0)
        assert "s3cret" not in f"{caught.value!r} {probe!r}"


def test_the_path_of_the_url_goes_before_every_path(
    probe_of: Callable[[str], Probe], talker: Callable[[Callable[[socket.socket], None]], Talker]
) -> None:
    def echo(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    probe = probe_of(talker(echo).url + "/prefix/")
    assert probe.url("/health").endswith("/prefix/health")
    assert probe.get("/health", 5.0).status == 200


def test_a_host_name_is_looked_up(probe_of: Callable[[str], Probe]) -> None:
    with StandIn() as server:
        assert probe_of(f"http://localhost:{server.port}").get("/health", 5.0).status == 200
