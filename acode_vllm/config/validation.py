"""Checks settings and gathers every mistake, so that all of them are reported at once (FR-041, AC-024).

What can be said of one value is in the table (`acode_vllm.settings.table`); what can only be said of several together
is here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from acode_vllm.settings.kinds import InvalidValueError
from acode_vllm.settings.table import BY_KEY, SECTION, TABLE, Setting, option_value
from acode_vllm.vocabulary.errors import Problem, error_for
from acode_vllm.vocabulary.options import MODEL_KEY, GpuOptions, ServerOptions, VllmLifecycleOptions
from acode_vllm.vocabulary.redaction import Redactor
from acode_vllm.vocabulary.safe_text import printable, show, show_part
from acode_vllm.vocabulary.states import LifecycleMode, OperatingMode

_PROGRAM = "given by the program"


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong.

    Attributes:
        key: The setting.
        origin: Where its value came from.
        reason: What is wrong, to be read after "it".
        shown: The value, redacted and printable; None where there is none to show.
        allowed: What is allowed instead, where that says more than the reason.
    """

    key: str
    origin: str
    reason: str
    shown: str | None = None
    allowed: str = ""

    def __str__(self) -> str:
        value = "" if self.shown is None else f" = {self.shown}"
        allowed = f"; allowed: {self.allowed}" if self.allowed else ""
        return f"{printable(self.key)}{value} ({printable(self.origin)}): {printable(self.reason)}{allowed}"


class MistakeList:
    """Gathers mistakes; one per reading, used by the thread that reads."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._found: list[Mistake] = []

    def add(self, key: str, origin: str, reason: str, allowed: str = "") -> None:
        """Notes a mistake that has no value to show."""
        self._found.append(Mistake(key, origin, reason, None, allowed))

    def add_value(self, key: str, origin: str, value: object, reason: str, allowed: str = "") -> None:
        """Notes a mistake in a value."""
        self._found.append(Mistake(key, origin, reason, show(value, self._redactor), allowed))

    def add_invalid(
        self, setting: Setting, value: object, error: InvalidValueError, origin: Callable[[str], str]
    ) -> None:
        """Notes the faults of one value; ``origin`` says where a part of it (``""``, ``".NAME"``, ``"[2]"``) stands."""
        for where, reason in error.faults:
            shown = show_part(value, where, self._redactor)
            self._found.append(Mistake(setting.key + where, origin(where), reason, shown, setting.allowed))

    def problem(self, *, also: tuple[str, ...] = ()) -> Problem | None:
        """One ACODE-VLM-010 that lists every mistake, ``also`` at its end; None where there is no mistake."""
        if not self._found:
            return None
        # Once more as a whole: a key, too, can be a token that was pasted in the wrong place.
        evidence = tuple(dict.fromkeys(self._redactor.redact(str(mistake)) for mistake in self._found))
        count = "one mistake" if len(evidence) == 1 else f"{len(evidence)} mistakes"
        remedy = "Correct what the evidence lists, then check with: acode config check."
        return Problem("ACODE-VLM-010", f"The configuration has {count}.", remedy, evidence + also)

    def raise_if_any(self, *, also: tuple[str, ...] = ()) -> None:
        """Raises ConfigurationError with `problem`, where there is one."""
        if (problem := self.problem(also=also)) is not None:
            raise error_for(problem)


def check_together(options: VllmLifecycleOptions, origin: Callable[[str], str], found: MistakeList) -> None:
    """Notes what is wrong with settings that are valid one by one. ``origin`` says where a key's value came from."""

    def note(name: str, value: object, reason: str) -> None:
        key = f"{SECTION}.{name}"
        found.add_value(key, origin(key), value, reason)

    if options.base_url is not None and options.mode is LifecycleMode.MANAGED:
        note("base_url", options.base_url, "is for monitored and external mode; managed mode runs vLLM on this machine")
    if options.metrics_port == options.port and options.base_url is None:
        note("metrics_port", options.metrics_port, "is the port of the server itself")
    env, gpu = options.server.env, options.gpu
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        if name in env and gpu.device_map is not None:
            note(f"env.{name}", env[name], "contradicts gpu.device_map, which sets it")
    wanted = gpu.tensor_parallel_size * gpu.pipeline_parallel_size
    elsewhere = any("ray" in argument or argument.startswith("--nnodes") for argument in options.server.extra_args)
    if gpu.device_map is not None and wanted > len(gpu.device_map) and not elsewhere:
        reason = f"names fewer devices than tensor_parallel_size x pipeline_parallel_size ({wanted})"
        note("gpu.device_map", gpu.device_map, reason)
    if options.operating_mode is OperatingMode.AIRGAPPED:
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            if env.get(name, "1").strip().lower() not in ("1", "true", "yes", "on"):
                note(f"env.{name}", env[name], "would let vLLM reach the hub in airgapped mode")


def options_problems(model: str, options: VllmLifecycleOptions) -> Problem | None:
    """What is wrong with settings that a program made by hand, by the same table as the configuration (FR-041).

    Returns:
        One ACODE-VLM-010 that lists every mistake; None where there is none.
    """
    found = MistakeList(Redactor())
    wrong_group = _wrong_group(options)
    if wrong_group is not None:
        found.add("options", _PROGRAM, wrong_group)
        return found.problem()
    for setting in (BY_KEY[MODEL_KEY], *(row for row in TABLE if row.option)):
        value = model if setting.key == MODEL_KEY else option_value(options, setting)
        try:
            normal = setting.read(value)
        except InvalidValueError as error:
            found.add_invalid(setting, value, error, lambda _where: _PROGRAM)
        else:
            if setting.key != MODEL_KEY and (normal != value or (isinstance(normal, Enum) and normal is not value)):
                found.add_value(setting.key, _PROGRAM, value, f"is a {type(value).__name__}; write {normal!r}")
    if found.problem() is None:
        check_together(options, lambda _key: _PROGRAM, found)
    return found.problem()


def _wrong_group(options: object) -> str | None:
    if not isinstance(options, VllmLifecycleOptions):
        return f"is {type(options).__name__}, not VllmLifecycleOptions"
    gpu: object = options.gpu
    server: object = options.server
    if not isinstance(gpu, GpuOptions):
        return f"has a gpu of {type(gpu).__name__}, not GpuOptions"
    return None if isinstance(server, ServerOptions) else f"has a server of {type(server).__name__}, not ServerOptions"
