"""What the tree of a real vLLM service is made of: which worker is made how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.records.used_shared_memory import read_used
from acode_vllm.service.local_service import ServiceEdges
from acode_vllm.supervisor import Worker, WorkerRef
from acode_vllm.vocabulary.gpus import GpuSample
from acode_vllm.vocabulary.wanted import Wanted
from acode_vllm.workers.gpu.gpu_worker import GpuWorker
from acode_vllm.workers.gpu.sampler import machine_sampler
from acode_vllm.workers.health.health_check import HealthEdges
from acode_vllm.workers.health.health_worker import HealthWorker
from acode_vllm.workers.log.log_worker import LogWorker
from acode_vllm.workers.log.rotation import Rotation
from acode_vllm.workers.machine.server_tree import ServerTree
from acode_vllm.workers.machine.shared_memory import unclaimed_since
from acode_vllm.workers.messages.lifecycle_messages import StartEngine
from acode_vllm.workers.messages.process_messages import LaunchPlan, SharedFile
from acode_vllm.workers.messages.reports import Report
from acode_vllm.workers.model.model_loader import ModelLoader
from acode_vllm.workers.preflight.start_check import check_start
from acode_vllm.workers.process.process_edges import ProcessEdges
from acode_vllm.workers.process.process_worker import ProcessWorker
from acode_vllm.workers.vllm.launch import build_plan
from acode_vllm.workers.warm.fork_plan import available_bytes
from acode_vllm.workers.warm.warm_worker import WarmWorker

OWN_LOG_BYTES = 1024 * 1024
"""Size from which on the keeper's log and the fork server's are rotated."""


def vllm_edges(folder: ServiceFolder) -> ServiceEdges:
    """The workers of a service on this machine."""

    def health(wanted: Wanted, report: Report) -> Worker:
        return HealthWorker(report, HealthEdges(ServerTree))

    def gpu(wanted: Wanted, report: Report) -> Worker:
        return GpuWorker(report, wanted.options.gpu.sample_interval_seconds)

    def loader(wanted: Wanted, report: Report) -> Worker:
        return ModelLoader(report, check=check_start)

    def warm(wanted: Wanted, report: Report) -> Worker:
        return WarmWorker(folder.fork_server_log, available_bytes=available_bytes)

    def logs(wanted: Wanted, report: Report) -> Worker:
        kept = [(folder.keeper_log, OWN_LOG_BYTES, 1), (folder.fork_server_log, OWN_LOG_BYTES, 1)]
        if (limits := wanted.options.logs).max_bytes:
            kept.append((folder.log, limits.max_bytes, limits.copies))
        return LogWorker(report, lambda stopping: [Rotation(*one, stopping) for one in kept])

    def process(plan: LaunchPlan, report: Report, warm_worker: Callable[[], WorkerRef | None]) -> Worker:
        return ProcessWorker(plan, report, ProcessEdges(warm_worker=warm_worker))

    def plan(effect: StartEngine) -> LaunchPlan:
        wanted, prepared = effect.wanted, effect.prepared
        if effect.stop_only:
            return _clearing_plan(folder, effect)
        plan = build_plan(
            prepared.model if prepared is not None else wanted.model,
            wanted.options,
            environ=wanted.environ,
            folder=folder.path,
            log_path=folder.log,
            api_key=wanted.api_key,
            prepared_env=prepared.env if prepared is not None else None,
            adopt=effect.adopt,
            leftover_marks=effect.leftover_marks,
        )
        return replace(plan, shared_memory=_left_shared_memory(folder, effect))

    return ServiceEdges(health, gpu, loader, warm, process, plan, logs)


def _left_shared_memory(folder: ServiceFolder, effect: StartEngine) -> frozenset[SharedFile]:
    """What earlier trees used, as it was recorded; and what the last one may have left before anybody looked."""
    recorded = read_used(folder.shared_memory)
    if not effect.leftover_marks or effect.adopt is not None:
        return recorded
    try:
        started = folder.mark.stat().st_mtime
    except OSError:
        return recorded
    return recorded | unclaimed_since(started)


def _clearing_plan(folder: ServiceFolder, effect: StartEngine) -> LaunchPlan:
    """Of a server that is only to be ended; whether vLLM could be started does not matter."""
    wanted = effect.wanted
    return LaunchPlan(
        argv=(),
        env={},
        cwd=folder.path,
        model=wanted.model,
        served_name=wanted.served_name,
        port=wanted.options.port,
        host=wanted.options.server.host,
        log_path=folder.log,
        options=wanted.options,
        leftover_marks=effect.leftover_marks,
        stop_only=True,
        shared_memory=_left_shared_memory(folder, effect),
    )


def sample_gpus() -> GpuSample:
    """The machine's GPUs at this moment, read by the caller. May take as long as the driver does."""
    sampler = machine_sampler()
    try:
        return sampler.sample()
    finally:
        sampler.close()
