"""The table of known causes. The first specific line of the log wins; if it fits several rows, the first of them."""

from __future__ import annotations

from acode_vllm.workers.diagnosis import (
    causes_device,
    causes_hub,
    causes_installation,
    causes_machine,
    causes_model,
    causes_options,
)
from acode_vllm.workers.diagnosis.cause_rule import CauseRule

RULES: tuple[CauseRule, ...] = (
    *causes_device.RULES,
    *causes_hub.RULES,
    *causes_model.RULES,
    *causes_options.RULES,
    *causes_machine.RULES,
    *causes_installation.RULES,
)

GENERIC: tuple[str, ...] = (
    "Engine core initialization failed",
    "Engine process failed to start",
    "EngineCore failed to start",
    "EngineCore encountered a fatal error",
    "EngineCore encountered an issue",
    "EngineDeadError",
    "AsyncLLM output_handler failed",
    "Frontend process failed during engine core initialization",
    "WorkerProc failed to start",
    "WorkerProc hit an exception",
    "WorkerProc initialization failed",
    "See stack trace for root cause",
    "Worker failed with error",
    "died unexpectedly",
    "Executor failed",
    "RuntimeError: cancelled",
    "Error in chat completion stream generator",
    "Error in completion stream generator",
    "Traceback (most recent call last)",
    "Process EngineCore",
    "validation error for",
    "validation errors for",
    "resource_tracker",
    "uncaught exception",
    "The above exception was the direct cause",
    "During handling of the above exception",
)
"""What vLLM says after every failure: never the answer."""
