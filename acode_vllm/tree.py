"""What the tree of a real vLLM service is made of: which worker is made how."""

from __future__ import annotations

from acode_vllm.gpus import GpuSample
from acode_vllm.local_service import Makers
from acode_vllm.service_folder import ServiceFolder
from acode_vllm.supervisor import Worker
from acode_vllm.workers.gpu_sampler import machine_sampler
from acode_vllm.workers.gpu_worker import GpuWorker
from acode_vllm.workers.health_check import Machine
from acode_vllm.workers.health_worker import HealthWorker
from acode_vllm.workers.launch import build_plan
from acode_vllm.workers.lifecycle_messages import Wanted
from acode_vllm.workers.messages import LaunchPlan, PreparedModel, Report, ServerProcess
from acode_vllm.workers.model_loader import ModelLoader
from acode_vllm.workers.process_worker import ProcessWorker
from acode_vllm.workers.server_tree import ServerTree


def vllm_makers(folder: ServiceFolder) -> Makers:
    """The workers of a service on this machine."""

    def health(wanted: Wanted, report: Report) -> Worker:
        return HealthWorker(report, Machine(ServerTree))

    def gpu(wanted: Wanted, report: Report) -> Worker:
        return GpuWorker(report, wanted.options.gpu.sample_interval_seconds)

    def loader(wanted: Wanted, report: Report) -> Worker:
        return ModelLoader(report)

    def process(plan: LaunchPlan, report: Report) -> Worker:
        return ProcessWorker(plan, report)

    def plan(
        wanted: Wanted, prepared: PreparedModel | None, adopt: ServerProcess | None, marks: tuple[str, ...]
    ) -> LaunchPlan:
        return build_plan(
            prepared.model if prepared is not None else wanted.model,
            wanted.options,
            environ=wanted.environ,
            folder=folder.path,
            log_path=folder.log,
            api_key=wanted.api_key,
            prepared_env=prepared.env if prepared is not None else None,
            adopt=adopt,
            leftover_marks=marks,
        )

    return Makers(health, gpu, loader, process, plan)


def sample_gpus() -> GpuSample:
    """The machine's GPUs at this moment, read by the caller. May take as long as the driver does."""
    sampler = machine_sampler()
    try:
        return sampler.sample()
    finally:
        sampler.close()
