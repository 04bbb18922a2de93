"""What the hub says of a model, asked with the real client."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_hub import FakeHub
from model_folders import SHARDS, write_model

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.workers.model import hub_client
from acode_vllm.workers.model.hub_client import (
    HubModel,
    HubQuestion,
    HubSilent,
    ask_hub,
    bytes_to_fetch,
    find_token,
    question_for,
)

GOOD, WEAK, JUNK = ("hf_" + word * 8 for word in ("good", "weak", "junk"))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    hub = FakeHub(known_tokens={GOOD, WEAK})
    folder = write_model(tmp_path / "model")
    hub.put_folder("acode/open", folder)
    hub.put_folder("acode/private", folder, private=True, allowed=frozenset({GOOD}))
    hub.put_folder("acode/gated", folder, gated=True, allowed=frozenset({GOOD}))
    with hub.serve():
        yield hub


def ask(hub: FakeHub, model: str, token: str | None = None) -> HubModel | HubSilent | Problem:
    return ask_hub(HubQuestion(model, endpoint=hub.url, token=token))


def refusal(hub: FakeHub, model: str, token: str | None = None) -> Problem:
    answer = ask(hub, model, token)
    assert isinstance(answer, Problem)
    assert token is None or token not in str(answer)
    return answer


def test_an_open_model_is_described_with_its_files(hub: FakeHub) -> None:
    answer = ask(hub, "acode/open")
    assert isinstance(answer, HubModel)
    assert answer.commit == hub.repos["acode/open"].commit
    assert answer.files == {name: len(content) for name, content in hub.repos["acode/open"].files.items()}


@pytest.mark.spec("FR-013", "FR-025", "FR-044", "AC-037", "UT-004", "ACODE-VLM-002")
def test_a_model_that_does_not_exist_is_named_with_its_page(hub: FakeHub) -> None:
    problem = refusal(hub, "acode/none", GOOD)
    assert problem.code == "ACODE-VLM-002"
    assert "acode/none was not found on Hugging Face (404)" in problem.message
    assert "https://huggingface.co/acode/none" in problem.remedy


@pytest.mark.spec("FR-025", "FR-045", "AC-009", "AC-039", "ACODE-VLM-003")
@pytest.mark.parametrize("model", ["acode/private", "acode/none"])
def test_a_401_says_both_what_it_may_mean_and_suggests_the_token(hub: FakeHub, model: str) -> None:
    problem = refusal(hub, model)
    assert problem.code == "ACODE-VLM-003"
    assert "private, or it does not exist" in problem.message
    assert f"https://huggingface.co/{model}" in problem.remedy
    assert "HF_TOKEN" in problem.remedy


@pytest.mark.spec("AC-012", "AC-039")
def test_a_gated_model_without_a_token_wants_terms_accepted_and_a_token(hub: FakeHub) -> None:
    problem = refusal(hub, "acode/gated")
    assert problem.code == "ACODE-VLM-003"
    assert "Accept its terms at https://huggingface.co/acode/gated" in problem.remedy
    assert "HF_TOKEN" in problem.remedy


@pytest.mark.spec("AC-012")
def test_a_gated_model_with_a_token_that_lacks_permission_wants_its_terms_accepted(hub: FakeHub) -> None:
    problem = refusal(hub, "acode/gated", WEAK)
    assert problem.code == "ACODE-VLM-003"
    assert "not been given access" in problem.message
    assert "Accept its terms at https://huggingface.co/acode/gated" in problem.remedy


@pytest.mark.spec("FR-014", "AC-011")
@pytest.mark.parametrize("model", ["acode/private", "acode/gated"])
def test_with_a_good_token_private_and_gated_models_may_be_fetched(hub: FakeHub, model: str) -> None:
    assert isinstance(ask(hub, model, GOOD), HubModel)
    assert {asked.token for asked in hub.asked} == {GOOD}


def test_without_a_token_none_is_sent(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", GOOD)  # of this program; the question is another user's
    ask(hub, "acode/open")
    assert {asked.token for asked in hub.asked} == {None}


@pytest.mark.spec("AC-009")
def test_a_token_that_the_hub_does_not_know_is_said_to_be_refused(hub: FakeHub) -> None:
    problem = refusal(hub, "acode/open", JUNK)
    assert problem.code == "ACODE-VLM-003"
    assert "refused the token in HF_TOKEN" in problem.message


def test_a_hub_that_cannot_be_reached_is_told_at_once() -> None:
    answer = ask_hub(HubQuestion("acode/open", endpoint="http://127.0.0.1:9"))
    assert isinstance(answer, Problem)
    assert answer.code == "ACODE-VLM-013"
    assert "acode/open" in answer.message


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_that_is_out_of_order_leaves_the_question_open(hub: FakeHub, status: int) -> None:
    hub.status = status
    answer = ask(hub, "acode/open")
    assert isinstance(answer, HubSilent)
    assert str(status) in answer.why


def test_a_hub_that_never_answers_is_waited_for_no_longer_than_the_deadline(hub: FakeHub) -> None:
    hub.silent = True
    begun = time.monotonic()
    answer = ask_hub(HubQuestion("acode/open", endpoint=hub.url, deadline=0.3))
    assert isinstance(answer, HubSilent)
    assert time.monotonic() - begun < 3.0


def test_the_token_is_never_shown() -> None:
    assert GOOD not in repr(HubQuestion("a/b", token=GOOD))


def test_the_question_is_asked_as_vllm_would_ask_it(tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path), "HF_ENDPOINT": "http://hub.example/", "HF_TOKEN": f" {GOOD}\n"}
    assert question_for("a/b", "main", env) == HubQuestion("a/b", "main", "http://hub.example", GOOD)


def test_the_saved_token_is_found_where_the_environment_has_none(tmp_path: Path) -> None:
    assert find_token({"HOME": str(tmp_path)}) is None
    (tmp_path / "token").write_text(GOOD + "\n")
    assert find_token({"HF_HOME": str(tmp_path)}) == GOOD
    assert find_token({"HF_HOME": str(tmp_path), "HF_TOKEN": WEAK}) == WEAK


def test_only_what_vllm_fetches_is_counted(tmp_path: Path) -> None:
    model = HubModel(
        "c", {"config.json": 10, "model.safetensors": 1000, "pytorch_model.bin": 1000, "original/x.pth": 5000}
    )
    assert bytes_to_fetch(model, None) == 1010
    (tmp_path / "config.json").write_text("{}")
    assert bytes_to_fetch(model, tmp_path) == 1000
    only_bin = replace(model, files={"config.json": 10, "pytorch_model.bin": 1000, "model.onnx": 9})
    assert bytes_to_fetch(only_bin, None) == 1010


def test_the_shards_of_a_real_answer_are_counted(hub: FakeHub) -> None:
    answer = ask(hub, "acode/open")
    assert isinstance(answer, HubModel)
    assert bytes_to_fetch(answer, None) == sum(answer.files.values())
    assert set(SHARDS) <= set(answer.files)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "ACODE-VLM-012"),
        (errno.EDQUOT, "ACODE-VLM-012"),
        (errno.EACCES, "ACODE-VLM-032"),
        (errno.ECONNREFUSED, "ACODE-VLM-013"),
    ],
)
def test_what_this_machine_refuses_is_not_blamed_on_the_hub(number: int, code: str) -> None:
    problem = hub_client.refusal(HubQuestion("a/b"), OSError(number, os.strerror(number), "/cache/blob"))
    assert isinstance(problem, Problem)
    assert problem.code == code
    assert os.strerror(number) in problem.message + str(problem.evidence)
