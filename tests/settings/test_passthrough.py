from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

import pytest

from acode_vllm.settings.passthrough import argument_faults, command_faults, variable_faults
from acode_vllm.settings.table import DECIDED

RECORDED = (Path(__file__).parent / "vllm_0_32_options.txt").read_text()
OPTIONS = [line for line in RECORDED.splitlines() if line.startswith("-")]
OWNED = [
    "--api-key", "--config", "--device-ids", "--device-memory-utilization", "--dtype", "--gpu-memory-utilization",
    "--grpc", "--headless", "--help", "--hf-token", "--host", "--max-model-len", "--model", "--pipeline-parallel-size",
    "--port", "--quantization", "--served-model-name", "--ssl-certfile", "--ssl-keyfile", "--tensor-parallel-size",
    "--uds", "-h", "-pp", "-q", "-tp",
]  # fmt: skip


def test_of_vllms_own_options_those_are_refused_that_a_setting_decides_and_no_other() -> None:
    assert [option for option in OPTIONS if argument_faults((option,), DECIDED)] == OWNED


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise argparse.ArgumentError(None, message)


def test_every_abbreviation_that_argparse_takes_for_one_of_ours_is_refused() -> None:
    parser = Parser(add_help=False)
    for option in OPTIONS:
        parser.add_argument(option, dest=option, nargs="?", const="given")
    tried = {option[:length] for option in OWNED for length in range(2, len(option) + 1)} - {"--"}
    reached = 0
    for spelling in sorted(tried):
        try:
            namespace, _ = parser.parse_known_args([spelling])
        except argparse.ArgumentError:
            continue  # ambiguous: vLLM refuses it itself
        if any(getattr(namespace, option) for option in OWNED):
            reached += 1
            assert argument_faults((spelling,), DECIDED), spelling
    assert reached > len(OWNED)


@pytest.mark.parametrize(
    "spelling",
    [
        "--port=9000", "--gpu_memory_utilization=0.5", "--gpu_memory-utilization", "--tensor_parallel_size=2", "-tp=2",
        "-tp2", "-pp=2", "-qawq", "-q=awq", "-t", "--tensor", "--serv=x", "--model.a=b", "--api_key", "--hf_token=x",
        "--",
    ],
)  # fmt: skip
def test_no_spelling_of_our_options_gets_through(spelling: str) -> None:
    faults = argument_faults(("--enforce-eager", spelling), DECIDED)
    assert faults
    assert faults[0][0] == "[1]"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--enforce-eager",),
        ("--max-num-seqs", "4"),
        ("--device", "cpu"),
        ("--compilation-config.mode=3",),
        ("--speculative-config", '{"model": "a/b"}'),
        ("--distributed-executor-backend", "ray"),
        ("-O3",),
        ("--watermark", "-1"),
        ("--trust-remote-code", "--tokenizer", "a/b"),
    ],
)
def test_options_that_no_setting_decides_pass(arguments: tuple[str, ...]) -> None:
    assert argument_faults(arguments, DECIDED) == ()


def test_what_is_not_an_option_is_not_taken_for_the_model() -> None:
    assert argument_faults(("other/model",), DECIDED)[0][0] == "[0]"
    assert "two elements" in argument_faults(("--max-num-seqs 4",), DECIDED)[0][1]


@pytest.mark.parametrize(
    ("command", "where"),
    [
        (("docker", "run", "x", "--api-key", "geheim"), "[4]"),
        (("env", "HF_TOKEN=geheim", "vllm"), "[1]"),
        (("./vllm", "serve"), "[0]"),
        (("-c",), "[0]"),
        (("",), "[0]"),
    ],
)
def test_a_command_holds_no_secret_and_no_relative_program(command: tuple[str, ...], where: str) -> None:
    assert [fault[0] for fault in command_faults(command)] == [where]


def test_an_ordinary_command_passes() -> None:
    assert command_faults(("/opt/venv/bin/python", "-m", "vllm.entrypoints.openai.api_server")) == ()
    assert command_faults(("docker", "run", "-e", "HF_TOKEN", "--gpus", "all", "vllm/vllm-openai")) == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HF_TOKEN", "x"), ("HUGGING_FACE_HUB_TOKEN", "x"), ("VLLM_API_KEY", "x"), ("VLLM_PORT", "1"), ("VLLM_MODEL",
        "x"),
        ("PYTHONSAFEPATH", ""), ("SPT_NOENV", "0"), ("ACODE_MODE", "x"), ("PYTHONPATH", "a:/b"), ("PYTHONPATH", "/a:"),
        ("1A", "x"), ("A B", "x"), ("A=B", "x"), ("", "x"), ("A", "x\0y"), ("OTHER_API_KEY", "geheim"),
        ("URL", "https://u:p@h/"), ("MY_PASSWORD", "geheim"),
    ],
)  # fmt: skip
def test_variables_that_are_ours_secret_or_dangerous_are_refused(name: str, value: str) -> None:
    assert [where for where, _ in variable_faults({"GOOD": "1", name: value})] == [f".{name}"]


def test_ordinary_variables_pass() -> None:
    ordinary = {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "LD_PRELOAD": "/x.so",
        "PYTHONPATH": "/a:/b",
        "TOKENIZERS_PARALLELISM": "0",
    }
    assert variable_faults(ordinary) == ()
