"""What vLLM said, where no rule knows it: the kind of an exception, and whether another start may help."""

from __future__ import annotations

from pathlib import Path

import pytest

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.server_process import LogPlace
from acode_vllm.workers.diagnosis.diagnosis import diagnose
from acode_vllm.workers.messages.process_messages import ProcessExit

UP = "INFO:     Application startup complete.\n"
ANSWERED = 'INFO:     127.0.0.1:1 - "POST /v1/completions HTTP/1.1" 200 OK\n'
GENERIC = (
    "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n"
)


def ended(folder: Path, text: str, exit_code: int = 1) -> Problem:
    log = folder / "vllm.log"
    log.write_text(f"(APIServer pid=1) INFO 11-20 10:00:03 [api_server.py:1] vLLM API server version 0.32.0\n{text}")
    return diagnose(
        log, LogPlace(), ProcessExit(code=exit_code), model="a/b", port=8000, kernel=lambda pids, before: ""
    )


@pytest.mark.parametrize(
    ("line", "code", "remedy"),
    [
        ("ValueError: Model X does not support LoRA.", "010", "setting that the line names"),
        ("vllm.exceptions.VLLMValidationError: num_gpu_blocks_override is nonsense", "010", "setting that the line"),
        ("TypeError: --speculative-config wants JSON", "010", "setting that the line names"),
        ("NotImplementedError: ALiBi is not implemented", "010", "setting that the line names"),
        ("KeyError: 'no_such_method'", "010", "setting that the line names"),
        ("RuntimeError: ROCM_SEGMENTED_ATTN requires AMD RDNA GPUs on ROCm", "010", "This device cannot"),
        ("NotImplementedError: Sparse Attention is not supported on CPU.", "010", "This device cannot"),
        ("RuntimeError: ('x is not supported ', 'on sm_75')", "010", "This device cannot"),
        ("ImportError: RayPrometheusMetric requires Ray to be installed.", "009", "Install what the line names"),
        ("TypeError: __init__() got an unexpected keyword argument 'dtype'", "009", "pip check"),
        ("FileNotFoundError: [Errno 2] No such file or directory: '/x/lora.json'", "032", "put the file there"),
        ("RuntimeError: not enough memory for the buffers", "006", "smaller"),
    ],
)
def test_an_exception_that_cannot_depend_on_chance_says_what_its_kind_suggests_and_is_not_tried_again(
    tmp_path: Path, line: str, code: str, remedy: str
) -> None:
    problem = ended(tmp_path, f"(EngineCore pid=2) ERROR 11-20 10:00:40 [core.py:708] {line}\n{GENERIC}")
    assert problem.code == f"ACODE-VLM-{code}"
    assert remedy in problem.remedy
    assert "vLLM ended before it served (exit code 1). It said: " in problem.message
    assert line[:12] in problem.evidence[0]
    assert (problem.retryable, problem.said) == (False, "")


def test_one_that_may_depend_on_chance_is_tried_again_and_known_again(tmp_path: Path) -> None:
    first = ended(tmp_path, f"RuntimeError: worker 4711 at 0x7f0a lost its way\n{GENERIC}")
    again = ended(tmp_path, f"RuntimeError: worker 815 at 0x7e01 lost its way\n{GENERIC}")
    other = ended(tmp_path, f"RuntimeError: worker 815 lost its mind\n{GENERIC}")
    assert first.code == "ACODE-VLM-015"
    assert first.retryable
    assert first.said == again.said != other.said
    assert first.said


def test_a_row_that_knows_the_chance_keeps_its_attempts_and_a_vague_one_does_not(tmp_path: Path) -> None:
    assert ended(tmp_path, "zmq.error.ZMQError: Address already in use (addr='tcp://127.0.0.1:5555')\n").said == ""
    vague = "torch._inductor.exc.InductorError: CppCompileError: C++ compile error\n"
    assert ended(tmp_path, vague).said == vague.strip()


def test_the_last_exception_of_the_first_chain_is_what_it_said(tmp_path: Path) -> None:
    chain = (
        "OddError: the reason\n\n"
        "The above exception was the direct cause of the following exception:\n\n"
        "Traceback (most recent call last):\n"
        '  File "/x/y.py", line 3, in z\n'
        "OtherError: what it means\n"
    )
    problem = ended(tmp_path, f"{chain}LateError: the end\n{GENERIC}")
    assert problem.message.endswith("It said: OtherError: what it means")
    assert "OddError: the reason" in problem.evidence


def test_a_server_that_had_served_is_started_again_whatever_it_said(tmp_path: Path) -> None:
    problem = ended(tmp_path, f"{UP}ValueError: Model X does not support this request\n")
    assert problem.code == "ACODE-VLM-015"
    assert problem.retryable
    assert problem.said == ""
    assert problem.message == "vLLM ended (exit code 1). It said: ValueError: Model X does not support this request"


def test_without_an_exception_the_most_telling_line_is_the_message(tmp_path: Path) -> None:
    assert "Its log says: /bin/sh: 1: vllm: not found" in ended(tmp_path, "/bin/sh: 1: vllm: not found\n", 127).message
    assert "Its last line: going on" in ended(tmp_path, "going on\n").message
    assert ended(tmp_path, "going on\n").said == ""


def test_an_instruction_that_the_cpu_lacks_is_not_tried_again_before_it_has_answered(tmp_path: Path) -> None:
    died = "ERROR 11-22 12:46:39 [x.py:3] Worker proc VllmWorker-0 died unexpectedly (exit code: -4), shutting down\n"
    assert not ended(tmp_path, died).retryable
    assert not ended(tmp_path, UP + died).retryable
    assert not ended(tmp_path, "Fatal Python error: Illegal instruction\n").retryable
    assert ended(tmp_path, UP + ANSWERED + died).retryable


def test_secrets_are_not_in_what_it_said(tmp_path: Path) -> None:
    token = "hf_" + "q" * 34
    problem = ended(tmp_path, f"OddError: Bearer {token} failed\n")
    assert problem.said
    assert token not in repr(problem)
