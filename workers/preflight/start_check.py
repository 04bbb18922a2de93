"""The preflight of a start, as the ModelLoader runs it; the GpuWorker reads the devices."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from acode_vllm.supervisor import WorkerRef
from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.vocabulary.redaction import API_KEY_NAME
from acode_vllm.workers.gpu.gpu_worker import sample_by_worker
from acode_vllm.workers.machine.port import port_holders, port_problem
from acode_vllm.workers.machine.process_tree import ProcessTree
from acode_vllm.workers.messages.model_messages import PreparedModel, PrepareModel, ServerFound
from acode_vllm.workers.messages.worker_ids import GPU
from acode_vllm.workers.model.model_check import AskHub
from acode_vllm.workers.preflight.found_server import find_server
from acode_vllm.workers.preflight.preflight import PreflightEdges, preflight, prepare_with
from acode_vllm.workers.preflight.report import Finding

RETURN_LOOKS = 10
RETURN_SECONDS = 1.0
"""How often, and at which interval, to look while an earlier instance may still give memory back."""

WhereIs = Callable[[str], WorkerRef | None]


def check_start(message: PrepareModel, ask: AskHub, whereis: WhereIs) -> PreparedModel | Problem | ServerFound:
    """Look at everything that the start needs, and first at whether a start is needed.

    Blocks for milliseconds if the model is cached and vLLM is a CPU build. Otherwise it takes as long as the hub and
    the driver, and up to 10 s for memory that an earlier instance of this service has not given back yet.

    Args:
        message: What is to be started.
        ask: Asks the hub.
        whereis: Finds the tree's workers.
    """
    options = message.options
    served_name = options.server.served_model_name or message.model

    def own_pids() -> frozenset[int]:
        return pids_of(message.leftover_marks)

    found = find_server(options, served_name, message.env.get(API_KEY_NAME), own_pids)
    if found is not None:
        return found
    looks = PreflightEdges(
        sample=lambda: sample_by_worker(whereis(GPU)),
        prepare=prepare_with(ask),
        server_pids=own_pids,
        look_again=_Again(whereis, RETURN_LOOKS if message.leftover_marks else 0),
    )
    report = preflight(message.model, options, message.env, looks)
    return replace(report, findings=(*report.findings, *port_findings(options, own_pids))).result


def port_findings(options: VllmLifecycleOptions, own_pids: Callable[[], frozenset[int]]) -> tuple[Finding, ...]:
    """What keeps a server from the port; nothing if that is only what is ended before the start anyway.

    The start looks again once everything is cleared. This look lets the port be reported with the other findings.
    """
    problem = port_problem(options.port, options.server.host)
    if problem is None or own_pids() & {holder.pid for holder in port_holders(options.port)}:
        return ()
    return (Finding.of(f"Port {options.port}", problem),)


def pids_of(marks: tuple[str, ...]) -> frozenset[int]:
    """The processes that carry one of these marks."""
    return frozenset(member.identity.pid for member in ProcessTree(marks).alive()) if marks else frozenset()


@dataclass
class _Again:
    """Waits for the next look, as long as the tree lives and memory may reasonably still return."""

    whereis: WhereIs
    left: int
    never: threading.Event = field(default_factory=threading.Event)

    def __call__(self) -> bool:
        if self.left == 0 or self.whereis(GPU) is None:
            return False
        self.left -= 1
        self.never.wait(RETURN_SECONDS)
        return True
