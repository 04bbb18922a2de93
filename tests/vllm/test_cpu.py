"""What is chosen for a vLLM on the CPU, on the flags of CPUs."""

from __future__ import annotations

from pathlib import Path

import pytest

from acode_vllm.vocabulary.options import ServerOptions
from acode_vllm.workers.vllm.cpu import cpu_arguments, lacks_bfloat16


@pytest.mark.parametrize(
    ("text", "lacks"),
    [
        ("processor: 0\nflags\t\t: fpu avx2 avx512f avx512_vnni\n", True),
        ("processor: 0\nflags\t\t: fpu avx512f avx512_bf16 vaes\n", False),
        ("processor: 0\nflags\t\t: fpu amx_bf16 amx_tile\n", False),
        ("processor: 0\nFeatures\t: fp asimd\n", False),  # not x86: left to vLLM
    ],
)
def test_the_flags_tell_whether_a_cpu_has_bfloat16(tmp_path: Path, text: str, lacks: bool) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert lacks_bfloat16(tmp_path / "cpuinfo") is lacks
    assert not lacks_bfloat16(tmp_path / "none")


def test_without_bfloat16_it_computes_in_float32_and_compiles_nothing() -> None:
    assert cpu_arguments(ServerOptions(), no_bfloat16=True) == ("--dtype", "float32", "--enforce-eager")
    assert cpu_arguments(ServerOptions(), no_bfloat16=False) == ("--enforce-eager",)


def test_what_the_user_has_said_is_left_alone() -> None:
    assert "--dtype" not in cpu_arguments(ServerOptions(dtype="auto"), no_bfloat16=True)
    assert "--dtype" not in cpu_arguments(ServerOptions(quantization="awq"), no_bfloat16=True)
    for own in ("--enforce-eager", "--no-enforce-eager", "--enforce_eager", "--compilation-config={}", "-O3", "-cc"):
        assert cpu_arguments(ServerOptions(extra_args=(own,)), no_bfloat16=False) == ()
