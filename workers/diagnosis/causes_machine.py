"""Causes that lie in this machine, in vLLM's installation, or in the arguments that it was given."""

from __future__ import annotations

import re

from acode_vllm.workers.diagnosis.cause_rule import CauseRule, Weight

MEND = (
    "Install vLLM anew into an environment of its own (https://docs.vllm.ai/en/latest/getting_started/installation/)."
)

RULES: tuple[CauseRule, ...] = (
    CauseRule(
        "unknown argument",
        "ACODE-VLM-010",
        (": error: unrecognized arguments",),
        "This vLLM does not know the arguments: {what}",
        "Correct providers.vllm.extra_args; vllm serve --help lists them.",
        re.compile(r"error: unrecognized arguments: (?P<what>.*)"),
    ),
    CauseRule(
        "bad argument",
        "ACODE-VLM-010",
        (": error: ",),
        "vLLM refused its arguments: {what}",
        "Correct providers.vllm.extra_args or the setting; vllm serve --help lists them.",
        re.compile(r"^(?:usage: )?[\w.-]+(?: \w+)?: error: (?P<what>.*)"),
    ),
    CauseRule(
        "port taken",
        "ACODE-VLM-005",
        (
            "OSError: [Errno 98] Address already in use",
            "error while attempting to bind on address",
            "[Errno 48] Address already in use",
        ),
        "Port {port} is taken by another process.",
        "Use a different port (VLLM_PORT or --port), or end what holds it: ss -ltnp 'sport = :{port}'",
        re.compile(r"already in use", re.IGNORECASE),
    ),
    CauseRule(
        "internal port taken",
        "ACODE-VLM-015",
        ("EADDRINUSE", "ZMQError: Address already in use", "DistNetworkError"),
        "A port that vLLM uses between its own processes is taken: {line}",
        "It is started again and takes another; a VLLM_PORT in providers.vllm.env fixes it, so remove that.",
    ),
    CauseRule(
        "address not here",
        "ACODE-VLM-010",
        ("Cannot assign requested address",),
        "providers.vllm.host is no address of this machine.",
        "Use 127.0.0.1, or an address that ip addr shows.",
        re.compile("rror"),
    ),
    CauseRule(
        "disk full",
        "ACODE-VLM-012",
        ("No space left on device", "Disk quota exceeded"),
        "The disk is full: {line}",
        "Free space, or move HF_HOME (the model cache) to a larger disk.",
        re.compile(r"^(?!.*(?:/dev/shm|psm_|torch_|nccl)).*rror"),
    ),
    CauseRule(
        "shared memory full",
        "ACODE-VLM-023",
        ("/dev/shm", "Bus error", "shared memory object", "torch_shm_manager"),  # noqa: S108 - a text to look for
        "The shared memory (/dev/shm) is full: {line}",
        "Give it more: in a container --shm-size=8g or --ipc=host; remove left-overs in /dev/shm.",
        re.compile(r"No space left|Bus error|unable to (?:open|allocate|mmap)|insufficient|could not unlink"),
    ),
    CauseRule(
        "out of main memory",
        "ACODE-VLM-023",
        (
            "can't allocate memory",
            "Cannot allocate memory",
            "std::bad_alloc",
            "MemoryError",
            "killed due to memory pressure",
        ),
        "This machine's main memory ran out: {line}",
        "Use a smaller model, end other programs, or lower --swap-space and VLLM_CPU_KVCACHE_SPACE.",
    ),
    CauseRule(
        "permission denied",
        "ACODE-VLM-032",
        ("PermissionError", "Permission denied", "Read-only file system"),
        "The operating system refused access: {line}",
        "Correct the permissions of that path, or choose another folder: HF_HOME for models, VLLM_CACHE_ROOT.",
        re.compile("rror"),
    ),
    CauseRule(
        "too many open files",
        "ACODE-VLM-032",
        ("Too many open files",),
        "vLLM may not open more files.",
        "Raise the limit before the start: ulimit -n 65536",
        re.compile("rror"),
    ),
    CauseRule(
        "no more threads",
        "ACODE-VLM-032",
        ("can't start new thread", "pthread_create failed", "Resource temporarily unavailable"),
        "vLLM may not start more threads or processes: {line}",
        "Raise the limits (ulimit -u, the container's --pids-limit), or set OMP_NUM_THREADS in providers.vllm.env.",
        re.compile("rror"),
    ),
    CauseRule(
        "vLLM is not installed",
        "ACODE-VLM-009",
        ("No module named vllm", "No module named 'vllm'"),
        "The Python that was named has no vLLM.",
        "Install vLLM there, or name the right command in providers.vllm.command.",
    ),
    CauseRule(
        "library missing",
        "ACODE-VLM-009",
        ("cannot open shared object file", "undefined symbol", "GLIBC_", "GLIBCXX_", "CXXABI_"),
        "vLLM's installation is broken: a binary library does not fit the rest: {line}",
        MEND,
        re.compile(r"rror.*(?:cannot open shared|undefined symbol|not found)"),
    ),
    CauseRule(
        "torchvision does not fit",
        "ACODE-VLM-009",
        ("operator torchvision::nms does not exist",),
        "vLLM's installation is broken: torchvision does not fit PyTorch.",
        "In vLLM's environment: pip uninstall -y torchvision torchaudio, or install the versions that match torch.",
    ),
    CauseRule(
        "package metadata missing",
        "ACODE-VLM-009",
        ("No package metadata was found for",),
        "vLLM's installation is broken: {line}",
        MEND + " Or start it with: python -m vllm.entrypoints.openai.api_server, as providers.vllm.command.",
    ),
    CauseRule(
        "compiler missing",
        "ACODE-VLM-009",
        (
            "Failed to find C compiler",
            "Python.h: No such file",
            "CUDA_HOME environment variable is not set",
            "Could not find nvcc",
            "Ninja is required",
            "No such file or directory: 'nvcc'",
            "No such file or directory: 'ninja'",
        ),
        "vLLM compiles code while it starts, and a tool for it is missing: {line}",
        "Install what it names (gcc, python3-dev, ninja, the CUDA toolkit), or add --enforce-eager to "
        "providers.vllm.extra_args.",
    ),
    CauseRule(
        "module missing",
        "ACODE-VLM-009",
        (
            "ModuleNotFoundError: No module named",
            "ImportError: cannot import name",
            "numpy.dtype size changed",
            "compiled using NumPy 1.x",
            "VersionConflict",
            "ImportError: Please install",
            "Exec format error",
        ),
        "vLLM's installation is broken: {line}",
        MEND,
    ),
    CauseRule(
        "stuck step",
        "ACODE-VLM-014",
        ("RPC call to",),
        "A step of the engine took too long and was given up: {line}",
        "It is restarted. If it happens again: a smaller model or context, or VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS in "
        "providers.vllm.env.",
        re.compile(r"TimeoutError: RPC call to \w+ timed out"),
    ),
    CauseRule(
        "batch smaller than the context",
        "ACODE-VLM-010",
        ("max_num_batched_tokens",),
        "vLLM refused the batch size: {line}",
        "Raise --max-num-batched-tokens, or lower providers.vllm.max_model_len.",
        re.compile(r"max_num_batched_tokens.*(?:smaller|less|must be)"),
    ),
    CauseRule(
        "compilation failed",
        "ACODE-VLM-015",
        ("BackendCompilerFailed", "InductorError", "torch._dynamo.exc."),
        "PyTorch could not compile the model: {line}",
        "Add --enforce-eager to providers.vllm.extra_args.",
        weight=Weight.VAGUE,
    ),
    CauseRule(
        "configuration refused",
        "ACODE-VLM-010",
        ("validation error",),
        "vLLM refused its configuration: {more}",
        "Correct the setting that it names.",
        re.compile(r"\d+ validation errors? for \w+"),
        Weight.VAGUE,
    ),
)
