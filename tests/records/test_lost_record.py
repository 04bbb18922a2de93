"""A server whose record is torn, emptied or deleted is shown and adopted, without a failed request."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from keepers import Acode, end
from service_fixtures import model, other_model, port

from acode_vllm.records.recorded import recorded_service
from acode_vllm.records.service_folder import ServiceFolder

__all__ = ["model", "other_model", "port"]


def _tear(folder: ServiceFolder) -> None:
    content = folder.record.read_bytes()
    folder.record.write_bytes(content[: len(content) // 2])


def _empty(folder: ServiceFolder) -> None:
    folder.record.write_bytes(b"")


def _delete(folder: ServiceFolder) -> None:
    folder.record.unlink()


def _delete_mark_as_well(folder: ServiceFolder) -> None:
    folder.record.unlink()
    folder.mark.unlink()


LOSSES = [_tear, _empty, _delete, _delete_mark_as_well]


class Requests:
    """Asks the server without a pause, until a request fails."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/v1/models"
        self._done = threading.Event()
        self.failure: OSError | None = None
        self.answers = 0
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        try:
            while not self._done.is_set():
                with urllib.request.urlopen(self._url, timeout=10) as answer:
                    answer.read()
                self.answers += 1
        except OSError as error:
            self.failure = error

    def end(self) -> None:
        self._done.set()
        self._thread.join(20)


@pytest.fixture
def acode(tmp_path: Path, model: str, port: int) -> Iterator[Acode]:
    command = Acode(tmp_path, model, port)
    command.write()
    yield command
    command.end()


@pytest.mark.parametrize("lose", LOSSES)
def test_the_server_of_a_lost_record_is_shown_and_adopted(acode: Acode, lose: Callable[[ServiceFolder], None]) -> None:
    acode.succeed("providers", "start", "vllm")
    before = acode.status()
    requests = Requests(acode.port)
    try:
        end(acode.owner())
        lose(acode.folder)
        shown = acode.status()
        assert (shown["state"], shown["pid"], shown["model"]) == ("Running", before["pid"], before["model"])
        assert shown["watched_by"] is None
        assert abs(shown["service"]["server"]["started_at"] - before["service"]["server"]["started_at"]) < 2
        acode.succeed("ask", "who are you?")
        after = acode.status()
    finally:
        requests.end()
    assert (after["state"], after["pid"], after["model"]) == ("Running", before["pid"], before["model"])
    assert after["watched_by"] is not None
    assert requests.failure is None
    assert requests.answers > 0


def test_a_stopped_service_without_a_record_has_never_started(acode: Acode) -> None:
    acode.succeed("providers", "start", "vllm")
    acode.succeed("providers", "stop", "vllm")
    end(acode.owner())
    record = acode.folder.record.read_bytes()
    acode.folder.record.unlink()
    assert recorded_service(acode.folder) is None
    acode.folder.record.write_bytes(record)  # for the fixture's end


def test_the_server_of_another_service_is_not_taken(acode: Acode, tmp_path: Path) -> None:
    acode.succeed("providers", "start", "vllm")
    other = ServiceFolder(tmp_path / str(acode.port))
    other.ensure()
    assert recorded_service(other) is None


def test_a_living_owner_of_a_lost_record_is_named(acode: Acode) -> None:
    acode.succeed("providers", "start", "vllm")
    owner = acode.owner()
    record = acode.folder.record.read_bytes()
    acode.folder.record.unlink()
    assert acode.status()["watched_by"] == owner
    if not acode.folder.record.exists():
        acode.folder.record.write_bytes(record)
