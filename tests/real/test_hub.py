"""Every answer of a model hub, asked by a real vLLM and by its preflight: what the user is told, and what nobody is."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
from acode_command import Said
from fake_hub import FakeHub
from own_services import OwnService, side_by_side
from real_service import RealService

from acode_vllm.workers.model.hub_client import DEADLINE

HELLO, MODEL = "acode/tiny-hello", "acme/model"
LINK = f"https://huggingface.co/{MODEL}"
PROMPT, ANSWER = "write a hello world program", 'print("Hello, world!")'
WEIGHTS = "model.safetensors"
BULK = 25_000_000
QUICK_SECONDS = 8.0
"""What the preflight finds is told in a second; the command's own start, on a busy machine, is the rest."""
SLOW_SECONDS = 12
"""What a load may take in the test of a slow hub, of which vLLM asks a dozen questions."""

# No token has a shape that would give it away: what hides it has to know it.
GOOD, STRANGER, UNKNOWN = "Qx7vLm2pRt9wZk4nBc8dF", "Jh3sYb6gVu1eXo5tKa0mN", "Wd8zEq4cPi7rTf2lSj9yG"
TOKENS = (GOOD, STRANGER, UNKNOWN)


def _gone(hub: FakeHub) -> None:
    del hub.repos[MODEL]


def _private(hub: FakeHub) -> None:
    hub.repos[MODEL] = replace(hub.repos[MODEL], private=True, allowed=frozenset({GOOD}))


def _gated(hub: FakeHub) -> None:
    hub.repos[MODEL] = replace(hub.repos[MODEL], gated=True, allowed=frozenset({GOOD}))


def _forgets_the_token(hub: FakeHub) -> None:
    hub.known_tokens.discard(UNKNOWN)


@dataclass(frozen=True)
class Refusal:
    """One way in which the hub refuses.

    Attributes:
        name: In words.
        token: Of the user; None for none.
        happens: Makes a hub, which has given everything to everybody, refuse.
        code: What the user is told.
        cause: A part of the message.
        remedy: A part of what to do.
    """

    name: str
    token: str | None
    happens: Callable[[FakeHub], None]
    code: str
    cause: str
    remedy: str


REFUSALS = (
    Refusal("no such model", STRANGER, _gone, "ACODE-VLM-002", f"{MODEL} was not found on Hugging Face", LINK),
    Refusal("private, no token", None, _private, "ACODE-VLM-003", "private, or it does not exist", "HF_TOKEN"),
    Refusal(
        "private, token of a stranger", STRANGER, _private, "ACODE-VLM-002", "was not found", "token that may read it"
    ),
    Refusal("gated, no token", None, _gated, "ACODE-VLM-003", f"{MODEL} is gated", f"Accept its terms at {LINK}"),
    Refusal("gated, no permission", STRANGER, _gated, "ACODE-VLM-003", "has not been given access", "Accept its terms"),
    Refusal("token unknown", UNKNOWN, _forgets_the_token, "ACODE-VLM-003", "refused the token", "valid token"),
)


class Onlooker:
    """Reads the command lines of all processes, as any user of the machine may, while a block runs."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="onlooker")

    def _look(self) -> None:
        while True:
            self.seen.update(" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
            if self._over.wait(0.2):
                return

    def __enter__(self) -> Onlooker:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()


@contextmanager
def hub_with(folder: Path) -> Iterator[FakeHub]:
    """A hub that gives the model to everybody."""
    hub = FakeHub(known_tokens=set(TOKENS))
    hub.put_folder(MODEL, folder)
    with hub.serve():
        yield hub


def own(service: RealService, hub: FakeHub, place: Path, token: str | None, **changes: object) -> OwnService:
    environ = {"HF_ENDPOINT": hub.url, **({"HF_TOKEN": token} if token else {})}
    return OwnService.like(service, place, environ, model=MODEL, **changes)


def holds_token(*texts: str) -> list[str]:
    return [token for token in TOKENS for text in texts if token in text]


def tokens_shown(hub: FakeHub) -> set[str | None]:
    """Who asked for the model, as the hub sees it."""
    return {asked.token for asked in hub.asked if MODEL in asked.path}


def check_told(case: Refusal, said: Said) -> None:
    """The user is told this, once, in a form to act on."""
    assert said.code == 1, (case.name, said.all)
    assert said.out == "", case.name
    first, _, rest = said.err[said.err.index("ACODE-VLM-") :].partition("\n")
    assert first.startswith(f"{case.code}: "), (case.name, said.err)
    assert case.cause in first, (case.name, said.err)
    assert case.remedy in next(line for line in rest.splitlines() if "What to do: " in line), (case.name, said.err)
    assert "Traceback" not in said.err, case.name


@pytest.mark.spec("FR-013", "FR-025", "FR-044", "FR-045", "AC-008", "AC-009", "AC-012", "AC-037", "AC-039")
def test_the_preflight_tells_every_refusal_before_vllm_is_started(
    real_service: RealService, tiny_models: Mapping[str, Path], tmp_path: Path
) -> None:
    def run(case: Refusal) -> None:
        with hub_with(tiny_models[HELLO]) as hub:
            service = own(real_service, hub, tmp_path / case.name, case.token)
            case.happens(hub)
            said = service.acode("ask", PROMPT)
        check_told(case, said)
        assert not service.log.exists(), f"{case.name}: vLLM was started"
        assert not holds_token(said.all, service.written()), case.name
        assert tokens_shown(hub) == {case.token}, case.name

    with Onlooker() as onlooker:
        side_by_side(run, REFUSALS)
    assert not holds_token(*onlooker.seen)


@pytest.mark.timeout(900)
@pytest.mark.spec("FR-013", "FR-025", "FR-044", "FR-045", "AC-009", "AC-012", "AC-037", "AC-039")
@pytest.mark.spec("ACODE-VLM-002", "ACODE-VLM-003")
def test_vllms_own_log_tells_every_refusal_that_comes_after_the_preflight(
    real_service: RealService, tiny_models: Mapping[str, Path], tmp_path: Path
) -> None:
    def run(case: Refusal) -> None:
        with hub_with(tiny_models[HELLO]) as hub:
            service = own(real_service, hub, tmp_path / case.name, case.token)
            said = service.acode("ask", PROMPT, once_started=lambda: case.happens(hub))
        check_told(case, said)
        assert f"Log: {service.log}" in said.err, case.name
        assert "Evidence: " in said.err, case.name
        assert said.err.count("vLLM started with") == 1, f"{case.name}: tried again in vain"
        assert not holds_token(said.all, service.written()), case.name

    with Onlooker() as onlooker:
        side_by_side(run, REFUSALS)
    assert not holds_token(*onlooker.seen)


def bulky(folder: Path, place: Path) -> Path:
    """A copy of the model whose file of weights has more than one piece of a download, and the same weights."""
    copy = Path(shutil.copytree(folder, place))
    content = (copy / WEIGHTS).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = {**header.get("__metadata__", {}), "padding": "x" * BULK}
    larger = json.dumps(header).encode()
    (copy / WEIGHTS).write_bytes(len(larger).to_bytes(8, "little") + larger + content[8 + length :])
    return copy


@pytest.mark.spec("FR-025", "AC-011")
def test_a_hub_that_is_down_is_told_at_once_and_a_pull_that_it_cut_goes_on_when_it_is_back(
    real_service: RealService, tiny_models: Mapping[str, Path], tmp_path: Path
) -> None:
    with hub_with(bulky(tiny_models[HELLO], tmp_path / "bulky")) as hub:
        _private(hub)
        service = own(real_service, hub, tmp_path / "service", GOOD)
        hub.cut_after = 15_000_000
        cut = service.acode("providers", "pull-model", "vllm", MODEL)
        assert cut.code == 1
        assert f"ACODE-VLM-013: The download of {MODEL} broke off: " in cut.err
        assert f"acode providers pull-model vllm {MODEL}, which continues where it broke off" in cut.err
        hub.cut_after = None
        hub.asked.clear()
        whole = service.acode("providers", "pull-model", "vllm", MODEL)
        assert whole.code == 0, whole.err
        assert [asked.first_byte for asked in hub.asked if asked.first_byte] == [10 * 1024**2]
        other = own(real_service, hub, tmp_path / "other", GOOD)
    began = time.monotonic()
    down = other.acode("ask", PROMPT)
    took = time.monotonic() - began
    check_told(Refusal("down", GOOD, _gone, "ACODE-VLM-013", "hub cannot be reached", "pre-stage the model"), down)
    assert took < QUICK_SECONDS, f"{took:.1f} s"
    assert not other.log.exists(), "vLLM was started"
    with hub_with(tiny_models[HELLO]) as hub:
        # Cached whole: whatever the hub does now, nobody asks it.
        hub.silent = True
        report = service.acode("doctor")
        assert f"{MODEL}: on this machine, complete" in report.all, report.all
        assert hub.asked == []
    assert not holds_token(cut.all, whole.all, down.all, report.all, service.written(), other.written())


@pytest.mark.timeout(600)
@pytest.mark.spec("IT-005", "FR-014", "AC-011", "NFR-016", "FR-023", "FR-047", "AC-040", "ACODE-VLM-004")
def test_a_private_model_is_downloaded_by_vllm_with_its_token_alone_and_a_slow_hub_is_waited_for_no_longer_than_allowed(
    real_service: RealService, tiny_models: Mapping[str, Path], tmp_path: Path
) -> None:
    def private(place: Path) -> None:
        with hub_with(tiny_models[HELLO]) as hub:
            _private(hub)
            without = own(real_service, hub, place / "without", None).acode("ask", PROMPT)
            check_told(next(case for case in REFUSALS if case.name == "private, no token"), without)
            hub.asked.clear()
            hub.bytes_per_second = 1_000_000
            service = own(real_service, hub, place / "with", GOOD)
            try:
                said = service.acode("ask", PROMPT)
                assert (said.code, said.out.strip()) == (0, ANSWER), said.err
                assert tokens_shown(hub) == {GOOD}
                assert [asked for asked in hub.asked if asked.method == "GET" and asked.path.endswith(WEIGHTS)]
                assert "of 1.7 MB" in said.err, "the download's progress is shown"
            finally:
                service.acode("providers", "stop", "vllm")
            assert not holds_token(said.all, service.written())

    def slow(place: Path) -> None:
        with hub_with(tiny_models[HELLO]) as hub:
            hub.answer_delay = DEADLINE + 0.5
            limits = {"model_load_timeout_seconds": SLOW_SECONDS}
            service = own(real_service, hub, place, STRANGER, lifecycle=limits)
            said = service.acode("ask", PROMPT)
        case = Refusal("slow", STRANGER, _gone, "ACODE-VLM-004", f"{SLOW_SECONDS} s", "pull-model")
        check_told(case, said)
        assert f"model_load_timeout_seconds (now {SLOW_SECONDS})" in said.err
        assert "Warning: the model hub could not be asked: " in said.err
        assert f"gave no answer within {DEADLINE:g} s" in said.err
        assert said.err.count("vLLM started with") == 1, "not tried again"
        assert not holds_token(said.all, service.written())

    with Onlooker() as onlooker:
        side_by_side(lambda job: job[0](tmp_path / job[1]), ((private, "private"), (slow, "slow")))
    assert not holds_token(*onlooker.seen)
