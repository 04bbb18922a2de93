"""Causes in this machine and its limits: ports, disk, memory, permissions."""

from __future__ import annotations

import re

from acode_vllm.workers.diagnosis.cause_rule import CauseRule, Weight

RULES: tuple[CauseRule, ...] = (
    CauseRule(
        "port taken",
        "ACODE-VLM-005",
        (
            "OSError: [Errno 98] Address already in use",
            "error while attempting to bind on address",
            "[Errno 48] Address already in use",
        ),
        "Port {port} is taken by another process.",
        "Use another port (VLLM_PORT or --port), or end the process that holds it: ss -ltnp 'sport = :{port}'",
        re.compile(r"already in use", re.IGNORECASE),
    ),
    CauseRule(
        "internal port taken",
        "ACODE-VLM-015",
        ("EADDRINUSE", "ZMQError: Address already in use", "DistNetworkError"),
        "A port that vLLM uses between its own processes is taken: {line}",
        "vLLM is started again and takes another port. A VLLM_PORT in providers.vllm.env prevents that: remove it.",
    ),
    CauseRule(
        "address not here",
        "ACODE-VLM-010",
        ("Cannot assign requested address",),
        "The address in providers.vllm.host does not belong to this machine.",
        "Use 127.0.0.1, or an address that ip addr lists.",
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
        "Make it larger (in a container: --shm-size=8g or --ipc=host), or remove old files from /dev/shm.",
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
        "This machine ran out of main memory: {line}",
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
        "vLLM reached the limit of open files.",
        "Raise the limit before the start: ulimit -n 65536",
        re.compile("rror"),
    ),
    CauseRule(
        "no more threads",
        "ACODE-VLM-032",
        ("can't start new thread", "pthread_create failed", "Resource temporarily unavailable"),
        "vLLM reached the limit of threads or processes: {line}",
        "Raise the limits (ulimit -u, the container's --pids-limit), or set OMP_NUM_THREADS in providers.vllm.env.",
        re.compile("rror"),
    ),
    CauseRule(
        "stuck step",
        "ACODE-VLM-014",
        ("RPC call to",),
        "A step of the engine took too long, and vLLM gave it up: {line}",
        "vLLM is restarted. If it happens again, use a smaller model or context, or raise "
        "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS in providers.vllm.env.",
        re.compile(r"TimeoutError: RPC call to \w+ timed out"),
    ),
    CauseRule(
        "compilation failed",
        "ACODE-VLM-015",
        ("BackendCompilerFailed", "InductorError", "torch._dynamo.exc."),
        "PyTorch could not compile the model: {line}",
        "Add --enforce-eager to providers.vllm.extra_args.",
        weight=Weight.VAGUE,
    ),
)
