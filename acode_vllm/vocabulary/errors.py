"""Every error a user can meet: one root, one table of codes.

A failure is first of all data, a `Problem`: its code, what happened, what to do next, and the evidence.
It travels in messages, records and logs, and is raised as the exception class of its code:

    VllmServiceError                     root; carries the Problem
    ├── ConfigurationError               010, 024  bad or untrusted input; nothing was started
    ├── StartError                       the server could not be started or did not stay up
    │   ├── GpuUnavailableError          001
    │   ├── ModelNotFoundError           002, 007, 025
    │   ├── AuthenticationError          003
    │   ├── ModelLoadTimeoutError        004, 016
    │   ├── PortInUseError               005
    │   ├── InsufficientMemoryError      006, 026
    │   ├── InstallationError            008, 009
    │   ├── RestartLimitError            011
    │   ├── DiskError                    012
    │   ├── HubError                     013
    │   ├── ServerCrashedError           014, 015, 023
    │   └── (StartError itself)          032
    ├── NotHealthyError                  017, 018  the server is down or does not answer as it should
    ├── RequestError                     019, 020  the request itself failed
    │   └── StreamInterruptedError       020       carries the text that had arrived
    ├── StopError                        021       something of the server did not go
    ├── InterruptedByStopError           022       another thread or program stopped what was waited for
    ├── WaitTimeoutError                 027       the caller's own timeout passed
    ├── ServiceBusyError                 028       another program owns the service and cannot be asked
    ├── StateFolderError                 029       the service's folder cannot be used
    └── UnknownProviderError             030

`CODES` is the table from which the documentation is made. A leaf: it imports nothing of ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from acode_vllm.vocabulary.codec import JsonValue


@dataclass(frozen=True)
class Code:
    """One row of the table of error codes.

    Attributes:
        meaning: What the code says, in a few words.
        resolution: What helps in general; the problem at hand says it more precisely.
        retryable: Whether starting the server again can mend it. What it cannot is never retried.
    """

    meaning: str
    resolution: str
    retryable: bool = False


CODES: dict[str, Code] = {
    # 001 to 006 are the specification's own.
    "ACODE-VLM-001": Code("GPU not available", "Install NVIDIA drivers and CUDA (or ROCm), check with nvidia-smi"),
    "ACODE-VLM-002": Code("Model not found on Huggingface", "Verify the model ID (org/model-name)"),
    "ACODE-VLM-003": Code("Authentication required", "Set HF_TOKEN for private and gated models"),
    "ACODE-VLM-004": Code("Model load timeout", "Increase model_load_timeout_seconds or use a smaller model"),
    "ACODE-VLM-005": Code("Port in use", "Use a different port via VLLM_PORT, or end the process that holds it"),
    "ACODE-VLM-006": Code("Insufficient VRAM", "Use a smaller model, a shorter context or a smaller batch"),
    "ACODE-VLM-007": Code("Model not available offline", "Pre-stage the model, or leave airgapped mode"),
    "ACODE-VLM-008": Code("vLLM not found", "Install vLLM, or name it with providers.vllm.command"),
    "ACODE-VLM-009": Code("vLLM installation broken", "Run the vllm command by hand and repair its environment"),
    "ACODE-VLM-010": Code("Invalid configuration", "Correct the keys that the message lists"),
    "ACODE-VLM-011": Code("Restart limit reached", "See the cause in the history, then start again"),
    "ACODE-VLM-012": Code("Not enough disk space", "Free space, or move HF_HOME to a larger disk"),
    "ACODE-VLM-013": Code("Model hub unreachable", "Check the network, or pre-stage the model", retryable=True),
    "ACODE-VLM-014": Code("Engine hung", "It is restarted; see the history if it happens again", retryable=True),
    "ACODE-VLM-015": Code("vLLM ended unexpectedly", "See the evidence and vLLM's log", retryable=True),
    "ACODE-VLM-016": Code("vLLM showed no sign of life", "Increase start_timeout_seconds", retryable=True),
    "ACODE-VLM-017": Code("Server not running", "Start it with its own manager, or use managed mode"),
    "ACODE-VLM-018": Code("Server not healthy", "See the failed check and vLLM's log", retryable=True),
    "ACODE-VLM-019": Code("Request failed", "See what the server answered"),
    "ACODE-VLM-020": Code(
        "Stream interrupted", "The text so far is kept; send the request again if it may be repeated"
    ),
    "ACODE-VLM-021": Code("Process did not end", "It is named with its state; a reboot may be needed"),
    "ACODE-VLM-022": Code("Interrupted by a stop", "Start again when the server is wanted"),
    "ACODE-VLM-023": Code("Memory of the machine exhausted", "Use a smaller model or free memory", retryable=True),
    "ACODE-VLM-024": Code("Project configuration not trusted", "Read it, then run: acode config trust"),
    "ACODE-VLM-025": Code("Model cannot be loaded", "Its files are damaged or of a kind vLLM does not support"),
    "ACODE-VLM-026": Code("Context does not fit", "Lower max_model_len"),
    "ACODE-VLM-027": Code("Timed out waiting", "Wait longer, or see the status for what it is doing"),
    "ACODE-VLM-028": Code("Service owned by another program", "Use that program, or wait until it ends"),
    "ACODE-VLM-029": Code("State folder unusable", "Check its permissions, owner and disk"),
    "ACODE-VLM-030": Code("Unknown provider", "Use one of those that the message lists"),
    "ACODE-VLM-031": Code("Internal error", "Please report it with the log"),
    "ACODE-VLM-032": Code("Refused by the operating system", "Correct the permission or raise the limit that it names"),
}
"""Code → its row. Codes are never renumbered; new ones continue the row."""


@dataclass(frozen=True)
class Problem(JsonValue):
    """One failure as data.

    Attributes:
        code: A key of `CODES`.
        message: What happened, one sentence or two, with the values that matter.
        remedy: What to do next, as commands or settings where possible.
        evidence: What proves it: lines of the log, the process on the port, the seconds waited.
        log_path: vLLM's whole log, where there is one.
        transient: Whether another start can mend it although its code says otherwise: memory that ran out while it
            served is free again afterwards.
        lasting: Whether no other start can mend it although its code says otherwise.
        said: What ended a start before the server served, as vLLM put it and without numbers; empty for anything
            else. Two starts in a row that say the same are no chance.
    """

    code: str
    message: str
    remedy: str = ""
    evidence: tuple[str, ...] = ()
    log_path: str | None = None
    transient: bool = False
    lasting: bool = False
    said: str = ""

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise ValueError(f"unknown error code {self.code!r}")
        if not self.remedy:
            object.__setattr__(self, "remedy", CODES[self.code].resolution + ".")

    @property
    def retryable(self) -> bool:
        """Whether another start can mend it."""
        return (CODES[self.code].retryable and not self.lasting) or self.transient

    def __str__(self) -> str:
        lines = [f"{self.code}: {self.message}", f"  What to do: {self.remedy}"]
        lines += [f"  Evidence: {line}" for line in self.evidence]
        if self.log_path:
            lines.append(f"  Log: {self.log_path}")
        return "\n".join(lines)


class VllmServiceError(Exception):
    """The root of every error that this package raises for its user."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem

    @property
    def code(self) -> str:
        """The code of the problem, ``ACODE-VLM-…``."""
        return self.problem.code

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.problem,))


class ConfigurationError(VllmServiceError):
    """The input is wrong or not trusted; nothing was started."""


class StartError(VllmServiceError):
    """The server could not be started, or did not stay up."""


class GpuUnavailableError(StartError):
    """vLLM needs a GPU and none can be used."""


class ModelNotFoundError(StartError):
    """The model does not exist, is not cached where nothing may be fetched, or cannot be loaded."""


class AuthenticationError(StartError):
    """The hub wants a token, or another one."""


class ModelLoadTimeoutError(StartError):
    """No sign of life, or no end of loading, within the time allowed."""


class PortInUseError(StartError):
    """Another process holds the port."""


class InsufficientMemoryError(StartError):
    """Weights, KV cache or context do not fit into memory."""


class InstallationError(StartError):
    """vLLM is missing, or is there and broken."""


class RestartLimitError(StartError):
    """The server failed more often than the limit allows (FR-033)."""


class DiskError(StartError):
    """The disk is too full."""


class HubError(StartError):
    """The model hub cannot be reached."""


class ServerCrashedError(StartError):
    """The server ended or hung, unasked."""


class NotHealthyError(VllmServiceError):
    """The server is down, or does not answer as it should."""


class RequestError(VllmServiceError):
    """The request failed; the server may be well."""

    def __init__(self, problem: Problem, status: int | None = None) -> None:
        super().__init__(problem)
        self.status = status
        """The HTTP status, where the server answered."""

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.problem, self.status))


class StreamInterruptedError(RequestError):
    """An answer broke off after part of it had been delivered; it is never repeated by itself."""

    def __init__(self, problem: Problem, partial_text: str = "") -> None:
        super().__init__(problem)
        self.partial_text = partial_text
        """What had arrived."""

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.problem, self.partial_text))


class StopError(VllmServiceError):
    """Something of the server did not go, not even by SIGKILL."""


class InterruptedByStopError(VllmServiceError):
    """What was waited for was stopped by another thread or program."""


class WaitTimeoutError(VllmServiceError):
    """The caller's own timeout passed; the server goes on."""


class ServiceBusyError(VllmServiceError):
    """Another program owns the service and cannot be asked."""


class StateFolderError(VllmServiceError):
    """The service's folder cannot be used."""


class UnknownProviderError(VllmServiceError):
    """No provider of that name."""


_CLASSES: dict[str, type[VllmServiceError]] = {
    "001": GpuUnavailableError,
    "002": ModelNotFoundError,
    "003": AuthenticationError,
    "004": ModelLoadTimeoutError,
    "005": PortInUseError,
    "006": InsufficientMemoryError,
    "007": ModelNotFoundError,
    "008": InstallationError,
    "009": InstallationError,
    "010": ConfigurationError,
    "011": RestartLimitError,
    "012": DiskError,
    "013": HubError,
    "014": ServerCrashedError,
    "015": ServerCrashedError,
    "016": ModelLoadTimeoutError,
    "017": NotHealthyError,
    "018": NotHealthyError,
    "019": RequestError,
    "020": StreamInterruptedError,
    "021": StopError,
    "022": InterruptedByStopError,
    "023": ServerCrashedError,
    "024": ConfigurationError,
    "025": ModelNotFoundError,
    "026": InsufficientMemoryError,
    "027": WaitTimeoutError,
    "028": ServiceBusyError,
    "029": StateFolderError,
    "030": UnknownProviderError,
    "031": VllmServiceError,
    "032": StartError,
}


def error_for(problem: Problem) -> VllmServiceError:
    """The exception of the problem's code, ready to be raised."""
    return _CLASSES[problem.code.removeprefix("ACODE-VLM-")](problem)
