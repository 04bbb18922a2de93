"""A model looked at before anything is started."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import hub_cache as cache_tool
import pytest
from model_folders import INDEX, SHARDS, write_model

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.options import ServerOptions, VllmLifecycleOptions
from acode_vllm.vocabulary.states import OperatingMode
from acode_vllm.workers.messages.model_messages import PreparedModel
from acode_vllm.workers.model.hub_cache import repository_folder
from acode_vllm.workers.model.hub_client import HubAnswer, HubModel, HubQuestion, HubSilent
from acode_vllm.workers.model.model_check import SPARE_BYTES, argument, prepare_model

MODEL = "acode/tiny"
LOCAL = VllmLifecycleOptions()
AIRGAPPED = VllmLifecycleOptions(operating_mode=OperatingMode.AIRGAPPED)


class Hub:
    """Answers as it is told to, and remembers what it was asked."""

    def __init__(self, answer: HubAnswer | None = None) -> None:
        self.answer = answer or HubSilent("nobody was to be asked")
        self.asked: list[HubQuestion] = []

    def __call__(self, question: HubQuestion) -> HubAnswer:
        self.asked.append(question)
        return self.answer


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"HF_HOME": str(tmp_path / "hf")}


@pytest.fixture
def cached(tmp_path: Path, env: dict[str, str]) -> Path:
    return cache_tool.store(tmp_path / "hf" / "hub", MODEL, write_model(tmp_path / "model"))


def look(
    model: str, env: dict[str, str], hub: Hub, options: VllmLifecycleOptions = LOCAL, free: int = 10**12
) -> PreparedModel | Problem:
    return prepare_model(model, options, env, hub, lambda folder: free)


def with_args(*args: str, options: VllmLifecycleOptions = LOCAL) -> VllmLifecycleOptions:
    return replace(options, server=ServerOptions(extra_args=args))


@pytest.mark.spec("FR-021")
def test_a_cached_model_starts_without_asking_the_hub(env: dict[str, str], cached: Path) -> None:
    hub = Hub()
    assert look(MODEL, env, hub) == PreparedModel(
        MODEL, True, {"HF_HUB_OFFLINE": "1"}, weight_bytes=2000, folder=cached
    )
    assert hub.asked == []


@pytest.mark.usefixtures("cached")
@pytest.mark.spec("FR-024", "AC-013")
def test_in_airgapped_mode_a_cached_model_runs_with_the_hub_switched_off(env: dict[str, str]) -> None:
    hub = Hub()
    prepared = look(MODEL, env, hub, AIRGAPPED)
    assert isinstance(prepared, PreparedModel)
    assert prepared.cached
    assert prepared.env == {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    assert hub.asked == []


@pytest.mark.spec("FR-024", "AC-013", "UT-010")
def test_in_airgapped_mode_a_model_that_is_not_cached_is_refused_without_asking(env: dict[str, str]) -> None:
    hub = Hub(HubModel("c", {}))
    problem = look(MODEL, env, hub, AIRGAPPED)
    assert isinstance(problem, Problem)
    assert problem.code == "ACODE-VLM-007"
    assert f"{MODEL} is not in the local cache" in problem.message
    assert "airgapped" in problem.message
    assert hub.asked == []


@pytest.mark.spec("FR-024", "AC-013")
def test_in_airgapped_mode_a_half_downloaded_model_is_refused_and_what_is_missing_is_named(
    env: dict[str, str], cached: Path
) -> None:
    (cached / SHARDS[1]).unlink()
    problem = look(MODEL, env, Hub(), AIRGAPPED)
    assert isinstance(problem, Problem)
    assert problem.code == "ACODE-VLM-007"
    assert SHARDS[1] in problem.message


def test_with_the_hub_switched_off_by_the_user_it_is_not_asked(env: dict[str, str]) -> None:
    hub = Hub()
    problem = look(MODEL, {**env, "HF_HUB_OFFLINE": "1"}, hub)
    assert isinstance(problem, Problem)
    assert problem.code == "ACODE-VLM-007"
    assert "HF_HUB_OFFLINE" in problem.message
    assert hub.asked == []


@pytest.mark.spec("FR-021")
def test_a_model_that_must_be_fetched_says_how_much(env: dict[str, str], tmp_path: Path) -> None:
    prepared = look(MODEL, env, Hub(HubModel("c" * 40, {"config.json": 10, "model.safetensors": 990})))
    folder = repository_folder(tmp_path / "hf" / "hub", MODEL)
    assert prepared == PreparedModel(MODEL, False, {}, 1000, download_folder=folder, weight_bytes=990)


def test_what_is_there_of_it_need_not_be_fetched(env: dict[str, str], cached: Path) -> None:
    (cached / SHARDS[1]).unlink()
    files = {file.name: file.stat().st_size for file in cached.iterdir()} | {SHARDS[1]: 5555}
    prepared = look(MODEL, env, Hub(HubModel(cached.name, files)))
    assert isinstance(prepared, PreparedModel)
    assert prepared.download_bytes == 5555


def test_a_disk_without_room_for_it_and_five_gigabytes_is_refused_with_the_figures(env: dict[str, str]) -> None:
    hub = Hub(HubModel("c", {"model.safetensors": 26 * 10**9}))
    problem = look(MODEL, env, hub, free=26 * 10**9 + SPARE_BYTES - 1)
    assert isinstance(problem, Problem)
    assert problem.code == "ACODE-VLM-012"
    assert "26.0 GB" in problem.message
    assert isinstance(look(MODEL, env, hub, free=26 * 10**9 + SPARE_BYTES), PreparedModel)


def test_what_the_hub_refuses_is_the_answer(env: dict[str, str]) -> None:
    refusal = Problem("ACODE-VLM-002", "no such model")
    assert look(MODEL, env, Hub(refusal)) is refusal


def test_a_hub_that_gives_no_answer_stops_nothing_and_is_told(env: dict[str, str]) -> None:
    prepared = look(MODEL, env, Hub(HubSilent("no answer within 5 s")))
    assert isinstance(prepared, PreparedModel)
    assert not prepared.cached
    assert "no answer within 5 s" in prepared.warnings[0]


@pytest.mark.spec("FR-014")
def test_the_hub_is_asked_with_the_users_token_and_revision(env: dict[str, str]) -> None:
    hub = Hub(HubModel("c", {}))
    token = "hf_" + "user" * 8
    look(MODEL, {**env, "HF_TOKEN": token, "HF_ENDPOINT": "http://hub"}, hub, with_args("--revision", "v1"))
    assert hub.asked == [HubQuestion(MODEL, "v1", "http://hub", token)]


@pytest.mark.usefixtures("cached")
def test_a_cached_model_that_needs_another_repository_keeps_the_hub(env: dict[str, str]) -> None:
    elsewhere = look(MODEL, env, Hub(), with_args("--tokenizer", "other/repo"))
    here = look(MODEL, env, Hub(), with_args("--tokenizer=/a/folder"))
    assert isinstance(elsewhere, PreparedModel)
    assert isinstance(here, PreparedModel)
    assert (elsewhere.cached, elsewhere.env) == (False, {})
    assert (here.cached, here.env) == (True, {"HF_HUB_OFFLINE": "1"})


def test_a_damaged_file_of_the_cache_is_told_before_the_start(env: dict[str, str], cached: Path) -> None:
    blob = (cached / SHARDS[0]).resolve()
    blob.write_bytes(blob.read_bytes()[:100])
    problem = look(MODEL, env, Hub())
    assert isinstance(problem, Problem)
    assert problem.code == "ACODE-VLM-025"
    assert SHARDS[0] in problem.message


def test_a_local_folder_is_accepted_as_it_is(tmp_path: Path, env: dict[str, str]) -> None:
    folder = str(write_model(tmp_path / "model"))
    assert look(folder, env, Hub()) == PreparedModel(folder, True, {}, weight_bytes=2000, folder=Path(folder))
    airgapped = look(folder, env, Hub(), AIRGAPPED)
    assert isinstance(airgapped, PreparedModel)
    assert airgapped.env["HF_HUB_OFFLINE"] == "1"


def test_weights_of_an_unusual_kind_are_not_looked_for(tmp_path: Path, env: dict[str, str]) -> None:
    folder = write_model(tmp_path / "model")
    for name in (*SHARDS, INDEX):
        (folder / name).unlink()
    assert isinstance(look(str(folder), env, Hub()), Problem)
    assert isinstance(look(str(folder), env, Hub(), with_args("--load-format", "dummy")), PreparedModel)
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert isinstance(look(str(tmp_path / "m.gguf"), env, Hub()), PreparedModel)


@pytest.mark.parametrize("name", ["config.json", SHARDS[0]])
def test_a_local_folder_that_lacks_a_file_is_refused_by_name(tmp_path: Path, env: dict[str, str], name: str) -> None:
    folder = write_model(tmp_path / "model")
    (folder / name).unlink()
    problem = look(str(folder), env, Hub())
    assert isinstance(problem, Problem)
    assert problem.code == "ACODE-VLM-025"
    assert name in problem.message


def test_a_local_folder_that_is_not_there_is_refused(tmp_path: Path, env: dict[str, str]) -> None:
    problem = look(str(tmp_path / "nowhere"), env, Hub())
    assert isinstance(problem, Problem)
    assert problem.code == "ACODE-VLM-025"


def test_what_may_not_be_read_is_said(tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "hub").mkdir()
    loop = repository_folder(tmp_path / "hf" / "hub", MODEL)
    loop.symlink_to(loop)
    problem = look(MODEL, env, Hub(HubModel("c", {})))
    assert isinstance(problem, Problem)
    assert problem.code == "ACODE-VLM-032"


@pytest.mark.parametrize(
    ("args", "value"),
    [
        (("--revision", "v1"), "v1"),
        (("--revision=v1",), "v1"),
        (("--x", "--revision", "v1"), "v1"),
        (("--revision", "--other"), ""),
        (("--other", "revision"), None),
        ((), None),
    ],
)
def test_an_argument_is_found_in_either_form(args: tuple[str, ...], value: str | None) -> None:
    assert argument(args, "revision") == value
    assert argument(("--download_dir", "/d"), "download-dir") == "/d"
