"""A vLLM of this user that nobody here started and that serves the wanted model: found, used, watched, left alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from queue import Queue

import pytest
from service_fixtures import MakeService, model, other_model, port, service
from standin import StandIn

from acode_vllm.records.record import ServiceRecord, save_record
from acode_vllm.records.recorded import recorded_service
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.vocabulary.errors import VllmServiceError
from acode_vllm.vocabulary.events import Event, ServerStarted, WarningRaised
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.vocabulary.server_process import ProcessIdentity
from acode_vllm.vocabulary.states import LifecycleMode, ServiceState
from acode_vllm.vocabulary.status import ServiceStatus
from acode_vllm.workers.messages.model_messages import ServerFound
from acode_vllm.workers.preflight.found_server import find_server

__all__ = ["model", "other_model", "port", "service"]

MODEL = "acode/standin"


def find(port: int, name: str = MODEL, key: str | None = None, own: frozenset[int] = frozenset()) -> ServerFound | None:
    return find_server(VllmLifecycleOptions(port=port), name, key, lambda: own)


@pytest.fixture
def other_server() -> Iterator[int]:
    """The port of an HTTP server that says yes to everything, and is no vLLM."""

    class Yes(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"data": [{"id": "acode/standin"}]}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Yes) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_vllm_that_serves_the_model_is_found() -> None:
    with StandIn() as there:
        found = find(there.port)
        assert found == ServerFound(there.pid)
        assert find(there.port, "acode/other") is None
        assert find(there.port, own=frozenset({there.pid})) is None


def test_a_vllm_that_wants_another_key_is_not_usable() -> None:
    with StandIn(env={"VLLM_API_KEY": "right-key"}) as there:
        assert find(there.port) is None
        assert find(there.port, key="right-key") == ServerFound(there.pid)


def test_another_program_is_no_vllm_whatever_it_answers(other_server: int) -> None:
    assert find(other_server) is None


def test_where_nobody_listens_nothing_is_found(port: int) -> None:
    assert find(port) is None


def test_it_is_used_as_if_monitored_and_said_so_and_never_touched(
    service: MakeService, port: int, model: str, other_model: str
) -> None:
    events: Queue[Event] = Queue()
    with StandIn(port=port, model=model) as there:
        vllm = service()
        vllm.subscribe(events.put)
        status = vllm.ensure_healthy(timeout=30)
        assert (status.state, status.mode, status.pid) == (ServiceState.RUNNING, LifecycleMode.MONITORED, None)
        with pytest.raises(VllmServiceError) as refused:
            vllm.stop(timeout=30)
        assert refused.value.code == "ACODE-VLM-017"
        assert f"PID {there.pid}" in refused.value.problem.message
        with pytest.raises(VllmServiceError, match="not restarted by it"):
            vllm.restart(timeout=30)
        # Another model is another server, and there the port is in the way.
        with pytest.raises(VllmServiceError) as taken:
            vllm.ensure_healthy(other_model, timeout=30)
        assert taken.value.code == "ACODE-VLM-005"
        assert f"PID {there.pid}" in taken.value.problem.message
        assert vllm.ensure_healthy(model, timeout=30).state is ServiceState.RUNNING
        assert there.process.poll() is None
    seen = [events.get_nowait() for _ in range(events.qsize())]
    assert not any(isinstance(event, ServerStarted) for event in seen)
    [warning, *_] = [event for event in seen if isinstance(event, WarningRaised)]
    assert f"PID {there.pid}" in warning.text
    assert "was not started by acode" in warning.text


def test_when_it_is_gone_the_next_start_is_our_own(service: MakeService, port: int, model: str) -> None:
    vllm = service(health_check_interval_seconds=0.2)
    with StandIn(port=port, model=model) as there:
        assert vllm.ensure_healthy(timeout=30).pid is None
    vllm.report_failure("it is gone")
    status = vllm.ensure_healthy(timeout=30)
    assert status.pid not in (None, there.pid)
    assert status.mode is LifecycleMode.MANAGED


def test_of_one_that_nobody_watches_any_more_nothing_is_claimed() -> None:
    folder = ServiceFolder.of(os.environ, 8000)
    folder.ensure()
    ended = ProcessIdentity(2**22, 1, "another boot")
    status = ServiceStatus(ServiceState.RUNNING, 1.0, "healthy", 1.0, LifecycleMode.MONITORED, "http://127.0.0.1:8000")
    save_record(folder.record, ServiceRecord(ended, status), durable=False)
    recorded = recorded_service(folder)
    assert recorded is not None
    assert recorded.status.state is ServiceState.UNKNOWN
    assert recorded.owner_pid is None
