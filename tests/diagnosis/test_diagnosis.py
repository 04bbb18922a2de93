"""Why a vLLM ended, on logs recorded from real ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from recordings import LOGS, diagnosed, recordings

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.server_process import LogPlace
from acode_vllm.workers.diagnosis.diagnosis import diagnose, explain_overdue
from acode_vllm.workers.diagnosis.rules import GENERIC
from acode_vllm.workers.messages.process_messages import ProcessExit

CAUSES: dict[str, tuple[str, str, str, str]] = {
    # recording: code, in the message, in the remedy, in the evidence
    "bad_argument": ("010", "--no-such-option", "extra_args", "unrecognized arguments: --no-such-option"),
    "bad_choice": ("010", "invalid choice: 'float99'", "extra_args", "invalid choice"),
    "missing_folder": ("025", "/nowhere/no-such-model is neither a folder", "path", "Repo id must be in the form"),
    "no_config_json": ("025", "no config.json", "folder", "Invalid repository ID or local directory"),
    "config_not_json": ("025", "config.json of /models/badjson cannot be used", "again", "not a valid JSON file"),
    "context_too_long": (
        "026",
        "4096 is more than the model's own context of 512",
        "512 or less",
        "max_model_len (4096)",
    ),
    "offline_not_cached": (
        "007",
        "acode/open is not in the local cache",
        "Pre-stage",
        "outgoing traffic has been disabled",
    ),
    "hub_unreachable": ("013", "hub cannot be reached", "network", "cannot find the requested files"),
    "hub_401_bad_token": ("003", "refused the token in HF_TOKEN", "HF_TOKEN", "401 Unauthorized"),
    "download_cut": ("013", "download of acode/open broke off", "where it broke off", "peer closed connection"),
    "kv_cache_too_big": ("006", "100000.0 GiB does not fit", "VLLM_CPU_KVCACHE_SPACE", "less than requested memory"),
    "kv_cache_no_room": (
        "026",
        "19.07 GiB of KV cache, and 1.0 GiB are available",
        "at most 524160",
        "larger than the available",
    ),
    "damaged_header": ("025", "damaged or incomplete", "Fetch it again", "header too large"),
    "truncated_shard": ("025", "damaged or incomplete", "Fetch it again", "file not fully covered"),
    "lfs_pointer": ("025", "damaged or incomplete", "Fetch it again", "header too large"),
    "missing_shard": ("025", "model-00002-of-00004.safetensors", "missing files", "referenced in index but missing"),
    "no_weights": ("025", "Cannot find any model weights", "missing files", "Cannot find any model weights"),
    "no_tokenizer": ("025", "tokenizer of /models/notokenizer is missing", "tokenizer.json", "backend tokenizer"),
    "shape_mismatch": ("025", "do not fit its config.json", "config.json belongs", "size of tensor a (64)"),
    "unsupported_architecture": ("025", "NobodyKnowsForCausalLM", "another model", "are not supported for now"),
    "unknown_model_type": ("025", "model type nobodyknows", "Update", "does not recognize this architecture"),
    "trust_remote_code": ("025", "its own Python code", "--trust-remote-code", "custom code"),
    "tp_indivisible": ("010", "2 attention heads, which 4 devices", "divisor of 2", "must be divisible"),
    "quantization_unknown": ("010", "quantization nosuch", "quantization", "Unknown quantization method"),
    "quantization_mismatch": (
        "010",
        "quantized with gptq, but providers.vllm.quantization says awq",
        "Leave",
        "does not match",
    ),
    "utilization_zero": ("010", "gpu_memory_utilization", "setting", "greater than 0"),
    "worker_killed": (
        "015",
        "VllmWorker-0 was ended by SIGKILL, which acode did not send",
        "dmesg",
        "died unexpectedly",
    ),
    "engine_killed": ("015", "its process EngineCore died without saying why", "", "exited unexpectedly"),
    "engine_killed_loading": ("015", "its process EngineCore was ended by SIGKILL", "dmesg", "'EngineCore': -9"),
    "batch_too_small": ("010", "max_num_batched_tokens (8)", "--max-num-batched-tokens", "smaller than max_model_len"),
    "host_not_here": ("010", "does not belong to this machine", "127.0.0.1", "Cannot assign requested address"),
    "chat_template": ("010", "/nowhere/x.jinja", "--chat-template", "appears path-like"),
    "success": ("015", "told it to end", "Find out what", ""),
    "download_success": ("015", "told it to end", "Find out what", ""),
    "cached_hub_down_offline": ("015", "told it to end", "Find out what", ""),
}

REPORTED: dict[str, tuple[str, str, str, str]] = {
    "report_quantization_capability": ("025", "compute capability 7.5", "another one", "Min capability: 80. "),
    "report_no_nvcc": ("009", "CUDA toolkit (nvcc) is not here", "CUDA_HOME", "Could not find nvcc"),
    "report_ptxas_too_old": ("009", "Value 'sm_121a'", "TRITON_PTXAS_PATH", "ptxas fatal"),
    "report_tool_parser_needed": (
        "010",
        "--enable-auto-tool-choice requires --tool-call-parser",
        "extra_args",
        "requires --tool-call-parser",
    ),
    "report_tool_parser_unknown": (
        "010",
        "no tool call parser called qwen35_coder. It has: deepseek_v3,hermes",
        "Did you mean qwen3_coder?",
        "invalid tool call parser",
    ),
    "report_transformers_too_new": ("009", "transformers library is too new", "'transformers<5'", "Qwen2Tokenizer"),
    "report_gguf_architecture": ("025", "architecture qwen35moe", "newer vLLM", "is not supported yet"),
    "report_flashinfer_old_gpu": ("010", "This GPU cannot run", "--attention-backend", "sm75 or higher"),
    "report_extra_missing": ("009", "optional part", "pip install 'vllm[audio]'", "Please install vllm[audio]"),
    "report_worker_hangs": (
        "014",
        "A worker of it hung: the engine waited for it in vain from 10:01:16 to 10:08:16",
        "NCCL_DEBUG=INFO",
        "Starting to load model",
    ),
    "report_configuration_missing": ("025", "configuration file of org/some-model", "folder", "Can't load the config"),
    "report_weight_not_divisible": ("010", "cannot be divided", "tensor_parallel_size", "min_thread_k = 128"),
    "report_system_library": ("009", "need GLIBCXX_3.4.32", "Installing vLLM again does not help", "libstdc++.so.6"),
}
"""Logs made after public reports. Each was once "the cause is unknown", or got the wrong remedy."""

SPECIFIED: dict[str, tuple[str, str, str, str]] = {
    "hub_404": (
        "002",
        "acode/no-such-model was not found on Hugging Face (404)",
        "https://huggingface.co/acode/no-such-model",
        "404",
    ),
    "hub_401_private": (
        "003",
        "401 for acode/private: it is private, or it does not exist",
        "HF_TOKEN",
        "401 Client Error",
    ),
    "hub_gated_401": (
        "003",
        "acode/gated is gated",
        "Accept its terms at https://huggingface.co/acode/gated",
        "401 Client Error",
    ),
    "hub_gated_403": (
        "003",
        "has not been given access",
        "Accept its terms at https://huggingface.co/acode/gated",
        "403 Client Error",
    ),
}


def check(name: str, expected: tuple[str, str, str, str]) -> None:
    problem = diagnosed(name)
    code, message, remedy, evidence = expected
    assert problem.code == f"ACODE-VLM-{code}"
    assert message in problem.message
    assert remedy in problem.remedy
    assert any(evidence in line for line in problem.evidence)
    assert problem.log_path == str(recordings()[name].path)
    assert 1 <= len(problem.evidence) <= 3
    assert all(len(line) <= 300 for line in problem.evidence)


@pytest.mark.parametrize("name", CAUSES)
def test_the_first_specific_cause_is_found_in_a_real_log(name: str) -> None:
    check(name, CAUSES[name])


@pytest.mark.parametrize("name", REPORTED)
def test_a_failure_that_people_report_is_explained(name: str) -> None:
    check(name, REPORTED[name])


@pytest.mark.parametrize("name", sorted({*REPORTED} - {"report_worker_hangs"}))
def test_a_failure_that_does_not_depend_on_chance_is_not_tried_again(name: str) -> None:
    assert not diagnosed(name).retryable


def test_a_load_that_took_too_long_is_explained_by_a_worker_that_hangs() -> None:
    overdue = Problem("ACODE-VLM-004", "The model was not loaded within 300 s.", evidence=("300 s",))
    explained = explain_overdue(overdue, recordings()["report_worker_hangs"].path, LogPlace())
    assert explained.code == "ACODE-VLM-004"
    assert "within 300 s. A worker of vLLM hangs: the engine waited for it in vain from 10:01:16" in explained.message
    assert "NCCL" in explained.remedy
    assert explain_overdue(overdue, recordings()["success"].path, LogPlace()) == overdue
    assert explain_overdue(overdue, LOGS / "none.log", LogPlace()) == overdue


@pytest.mark.parametrize("name", ["report_no_nvcc", "report_ptxas_too_old"])
def test_enforce_eager_is_not_suggested_where_it_does_not_help(name: str) -> None:
    assert "--enforce-eager" not in diagnosed(name).remedy


@pytest.mark.spec("FR-013", "FR-025", "FR-044", "AC-037", "ACODE-VLM-002")
def test_a_model_that_does_not_exist_is_named_with_its_page() -> None:
    check("hub_404", SPECIFIED["hub_404"])


@pytest.mark.spec("FR-025", "FR-045", "AC-009", "AC-039", "ACODE-VLM-003")
@pytest.mark.parametrize("name", ["hub_401_private", "hub_gated_401"])
def test_without_a_token_the_token_is_suggested(name: str) -> None:
    check(name, SPECIFIED[name])
    assert "HF_TOKEN" in diagnosed(name).remedy


@pytest.mark.spec("FR-025", "AC-012")
@pytest.mark.parametrize("name", ["hub_gated_401", "hub_gated_403"])
def test_a_gated_model_wants_its_terms_accepted_at_its_page(name: str) -> None:
    check(name, SPECIFIED[name])


@pytest.mark.spec("ACODE-VLM-005")
def test_a_taken_port_is_named() -> None:
    problem = diagnosed("port_taken")
    assert problem.code == "ACODE-VLM-005"
    assert f"Port {recordings()['port_taken'].port} is taken" in problem.message
    assert "VLLM_PORT" in problem.remedy


def test_every_recording_is_checked_and_names_its_version_and_command() -> None:
    assert {path.stem for path in LOGS.glob("*.log")} == set(recordings())
    assert set(recordings()) == {*CAUSES, *REPORTED, *SPECIFIED, "port_taken", "stopped_while_loading"}
    for recording in recordings().values():
        assert recording.vllm.startswith("0.")
        assert "vllm" in recording.command


def test_a_start_that_was_stopped_is_not_said_to_have_crashed() -> None:
    assert "told it to end" in diagnosed("stopped_while_loading").message


def test_generic_lines_are_never_the_answer() -> None:
    for name in (*CAUSES, *REPORTED, *SPECIFIED):
        problem = diagnosed(name)
        assert "unknown" not in problem.message
        assert not [generic for generic in GENERIC if generic in problem.message]


def test_an_earlier_server_in_the_same_log_is_passed_over(tmp_path: Path) -> None:
    earlier = (LOGS / "context_too_long.log").read_bytes()
    assert diagnosed("bad_argument", earlier, tmp_path).code == "ACODE-VLM-010"


def test_a_log_that_was_rotated_away_under_the_offset_is_read_from_its_beginning() -> None:
    recording = recordings()["context_too_long"]
    problem = diagnose(recording.path, LogPlace(10**9), recording.exit, model=recording.model, port=1)
    assert problem.code == "ACODE-VLM-026"


def test_of_a_log_that_is_missing_or_empty_the_exit_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.log").touch()
    for name in ("none.log", "empty.log"):
        problem = diagnose(tmp_path / name, LogPlace(), ProcessExit(code=3), model="a/b", port=1)
        assert problem.code == "ACODE-VLM-015"
        assert "exit code 3" in problem.message
        assert "without printing anything" in problem.message


def test_a_log_that_may_not_be_read_is_said(tmp_path: Path) -> None:
    problem = diagnose(tmp_path, LogPlace(), ProcessExit(code=3), model="a/b", port=1)
    assert problem.code == "ACODE-VLM-015"
    assert str(tmp_path) in problem.evidence[0]
