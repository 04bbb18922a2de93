"""Checks everything that a start needs without starting anything: what ``acode doctor`` reports.

It runs the checks of the start itself (`acode_vllm.workers.preflight`) and some that a start cannot afford: importing
vLLM takes seconds. It changes, creates and ends nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from acode_vllm.records.recorded import RecordedService, recorded_service
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.vocabulary.errors import Problem, VllmServiceError
from acode_vllm.vocabulary.gpus import GpuSample
from acode_vllm.vocabulary.states import LifecycleMode, ServiceState
from acode_vllm.vocabulary.wanted import Wanted
from acode_vllm.workers.gpu.gpu_worker import sample_by_worker
from acode_vllm.workers.machine.port import port_holders, port_problem
from acode_vllm.workers.messages.health_messages import Watch
from acode_vllm.workers.messages.reports import Reported
from acode_vllm.workers.messages.worker_ids import GPU
from acode_vllm.workers.model.download_progress import in_units
from acode_vllm.workers.model.hub_cache import cache_root
from acode_vllm.workers.model.hub_client import ask_hub, find_token
from acode_vllm.workers.model.model_check import AskHub, free_bytes
from acode_vllm.workers.preflight.found_server import find_server
from acode_vllm.workers.preflight.preflight import VLLM, PreflightEdges, preflight, prepare_with
from acode_vllm.workers.preflight.report import Finding, Level
from acode_vllm.workers.preflight.start_check import pids_of
from acode_vllm.workers.vllm.command import find_vllm, verify_command

LEAST_LOG_BYTES = 10**9
"""Less room than this for logs and records is a warning."""
STOP_SECONDS = 2.0


def examine(
    wanted: Wanted, folder: ServiceFolder, *, ask: AskHub = ask_hub, sample: Callable[[], GpuSample] | None = None
) -> tuple[Finding, ...]:
    """Every finding, in the order in which a start would meet it. Takes seconds.

    Args:
        wanted: What would be started, or, in monitored and external mode, what should be there.
        folder: Where the service's records are.
        ask: Asks the hub.
        sample: Reads the GPUs in bounded time.
    """
    if wanted.options.mode is not LifecycleMode.MANAGED:
        return (look_at_server(wanted),)
    found = [look_at_folder(folder)]
    service: RecordedService | None = None
    try:
        service = recorded_service(folder)
    except VllmServiceError as error:
        found.append(Finding.of("Service record", error.problem))
    mark = service.status.mark if service is not None else None  # of a server that is being started, too
    marks = (mark,) if mark else ()
    looks = PreflightEdges(sample or sample_once, prepare_with(ask), lambda: pids_of(marks))
    report = preflight(wanted.model, wanted.options, wanted.environ, looks)
    found += report.findings
    if not any(finding.subject == VLLM and finding.problem for finding in report.findings):
        found += look_at_import(wanted)
    found += [look_at_token(wanted), look_at_disk(wanted, folder), look_at_port(wanted, marks)]
    if service is not None:
        found.append(look_at_service(service))
    return tuple(found)


def sample_once() -> GpuSample:
    """The machine's GPUs, or an error after some seconds if their driver hangs."""
    from acode_vllm.supervisor import ChildSpec, Supervisor
    from acode_vllm.workers.gpu.gpu_worker import GpuWorker

    def unheard(message: Reported) -> None:
        """Drop it: samples are taken only on demand."""

    tree = Supervisor([ChildSpec(GPU, lambda: GpuWorker(unheard, 0.0))], name="doctor")
    tree.start(STOP_SECONDS)
    try:
        return sample_by_worker(tree.whereis(GPU))
    finally:
        tree.stop(STOP_SECONDS)


def look_at_folder(folder: ServiceFolder) -> Finding:
    """Whether the service's folder can be used, without creating it."""
    subject = "State folder"
    place = folder.path
    while not os.path.lexists(place):
        place = place.parent
    if place == folder.path and os.stat(place, follow_symlinks=False).st_uid != os.getuid():
        why = "it belongs to another user"
    elif not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        why = "it cannot be written"
    else:
        return Finding(subject, Level.OK, str(folder.path))
    remedy = "Correct its owner, permissions or disk, or set XDG_STATE_HOME to a folder of your own."
    return Finding.of(subject, Problem("ACODE-VLM-029", f"{place} cannot be used: {why}.", remedy))


def look_at_import(wanted: Wanted) -> list[Finding]:
    """Whether its Python can import vLLM; nothing if no Python with a vLLM is known. Takes seconds."""
    command = find_vllm(wanted.options.server.command, wanted.environ)
    if command.build() is None:
        return []
    problem = verify_command(command)
    if problem is not None:
        return [Finding.of("vLLM import", problem)]
    return [Finding("vLLM import", Level.OK, f"{command.interpreter} can import it")]


def look_at_token(wanted: Wanted) -> Finding:
    """Whether there is a token for the hub; never which."""
    there = find_token({**wanted.environ, **wanted.options.server.env}) is not None
    return Finding("Hub token", Level.OK, "set" if there else "not set (private and gated models need HF_TOKEN)")


def look_at_disk(wanted: Wanted, folder: ServiceFolder) -> Finding:
    """How much room there is. The look at the model says whether it suffices for a download."""
    cache = cache_root({**wanted.environ, **wanted.options.server.env})
    models, records = free_bytes(cache), free_bytes(folder.path)
    text = f"{in_units(models)} free for models ({cache}), {in_units(records)} for logs and records"
    return Finding("Disk", Level.WARNING if records < LEAST_LOG_BYTES else Level.OK, text)


def look_at_port(wanted: Wanted, marks: tuple[str, ...]) -> Finding:
    """Whether the port is free, or held by this service's own server or another one that will do."""
    port = wanted.options.port
    subject = f"Port {port}"
    problem = port_problem(port, wanted.options.server.host)
    if problem is None:
        return Finding(subject, Level.OK, "free")
    holders, own = port_holders(port), pids_of(marks)
    ours = sorted(holder.pid for holder in holders if holder.pid in own)
    if ours and not any(holder.listens and holder.pid not in own for holder in holders):
        return Finding(subject, Level.OK, f"held by this service's own vLLM, PID {ours[0]}")
    found = find_server(wanted.options, wanted.served_name, wanted.api_key, frozenset)
    if found is not None:
        text = f"held by vLLM, PID {found.pid}, which was not started by acode and serves the model: it is used as is"
        return Finding(subject, Level.OK, text)
    return Finding.of(subject, problem)


def look_at_service(service: RecordedService) -> Finding:
    """What the service is, and why it does not run if it does not."""
    status = service.status
    watched = f"watched by PID {service.owner_pid}" if service.owner_pid else "watched by nobody now"
    text = f"{status.state.value}, {watched}: {status.reason}"
    failed = status.state in (ServiceState.FAILED, ServiceState.CRASHED)
    if failed and status.problem is not None:
        code, message = status.problem.code, status.problem.message
        same = message == status.reason
        text = f"{text.rstrip('.')} ({code})" if same else f"{text.rstrip('.')}; the last failure: {code}: {message}"
    return Finding("Service", Level.WARNING if failed else Level.OK, text)


def look_at_server(wanted: Wanted) -> Finding:
    """Whether a server that another program manages answers as it should."""
    from acode_vllm.io.waits import Interrupt
    from acode_vllm.workers.health.health_check import HealthCheck, HealthEdges
    from acode_vllm.workers.machine.server_tree import ServerTree

    options = wanted.options
    watch = Watch(options.url, wanted.served_name, None, True, options, wanted.api_key)
    with closing(Interrupt()) as interrupt:
        machine = HealthEdges(ServerTree)
        with closing(HealthCheck(watch, machine, interrupt, time.monotonic, time.time)) as check:
            report = check.run(deep=False)
    if report.ok:
        text = f"{options.url} serves {wanted.served_name} ({report.seconds * 1000:.0f} ms)"
        return Finding("Server", Level.OK, text)
    message = f"The vLLM server at {options.url} is not healthy: {report.reason}. The mode is {options.mode.value}."
    remedy = "Look at its manager (for example: systemctl status vllm), or use lifecycle mode managed."
    return Finding.of("Server", Problem("ACODE-VLM-017", message, remedy))


def driver_versions(proc: Path = Path("/proc"), sys_folder: Path = Path("/sys")) -> dict[str, str]:
    """The versions of the loaded GPU drivers, by name."""
    files = {"nvidia": proc / "driver/nvidia/version", "amdgpu": sys_folder / "module/amdgpu/version"}
    found = {}
    for name, file in files.items():
        if file.is_file():
            found[name] = file.read_text(encoding="utf-8", errors="replace").strip().partition("\n")[0]
    return found


def versions(wanted: Wanted | None) -> dict[str, str]:
    """The versions of what runs here, by name: Python, this package, its dependencies, vLLM, the drivers."""
    import platform

    from acode_vllm._version import __version__

    found = {"acode-vllm": __version__, "python": platform.python_version(), "system": platform.platform()}
    packages = ("requests", "urllib3", "huggingface-hub", "psutil", "nvidia-ml-py", "pyyaml")
    found |= {name: _package_version(name) for name in packages}
    if wanted is not None:
        try:
            build = find_vllm(wanted.options.server.command, wanted.environ).build()
        except VllmServiceError:
            build = None
        found["vllm"] = (build.version if build else None) or "unknown"
        found["torch"] = (build.torch if build else None) or "unknown"
    return {**found, **driver_versions()}


def _package_version(name: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
