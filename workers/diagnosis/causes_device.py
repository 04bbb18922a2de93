"""Causes that lie in the GPU, its driver and its memory, or in the memory that vLLM plans with."""

from __future__ import annotations

import re

from acode_vllm.workers.diagnosis.cause_rule import CauseRule, Weight

LOOK = "Check with nvidia-smi (NVIDIA) or rocm-smi (AMD)."
LESS = "use a smaller or quantized model, a smaller max_model_len, or more devices (gpu.tensor_parallel_size)."

RULES: tuple[CauseRule, ...] = (
    CauseRule(
        "driver mismatch",
        "ACODE-VLM-001",
        (
            "river/library version mismatch",
            "NVML/RM version mismatch",
            "LibRmVersionMismatch",
            "unsupported display driver / cuda driver combination",
        ),
        "The NVIDIA driver that is loaded does not match its libraries: it was updated and not reloaded.",
        "Reboot, or reload the driver's kernel modules; then check with nvidia-smi.",
    ),
    CauseRule(
        "driver too old",
        "ACODE-VLM-001",
        ("driver on your system is too old", "driver version is insufficient", "forward compatibility was attempted"),
        "The NVIDIA driver is too old for the CUDA that this vLLM was built with: {line}",
        "Install a newer NVIDIA driver, or a vLLM that was built for an older CUDA; check with nvidia-smi.",
    ),
    CauseRule(
        "no driver",
        "ACODE-VLM-001",
        ("Found no NVIDIA driver",),
        "There is no NVIDIA driver on this machine.",
        "Install the NVIDIA driver; check with nvidia-smi.",
    ),
    CauseRule(
        "fabric manager",
        "ACODE-VLM-001",
        ("system not yet initialized",),
        "The GPUs are not initialized: on machines with NVSwitch the fabric manager must run.",
        "Start nvidia-fabricmanager in the version of the driver; check with nvidia-smi.",
    ),
    CauseRule(
        "no such device",
        "ACODE-VLM-001",
        ("invalid device ordinal",),
        "vLLM was told to use a GPU that is not there.",
        "Check providers.vllm.gpu.device_map and tensor_parallel_size against nvidia-smi -L.",
    ),
    CauseRule(
        "device busy",
        "ACODE-VLM-001",
        ("CUDA-capable device(s) is/are busy", "devices are busy or unavailable"),
        "Every GPU is taken by another process in exclusive mode, or unavailable.",
        LOOK + " End the process that holds it, or set the compute mode to default: nvidia-smi -c 0",
    ),
    CauseRule(
        "no kernel for this device",
        "ACODE-VLM-009",
        (
            "no kernel image is available for execution",
            "device kernel image is invalid",
            "HIP error: invalid device function",
        ),
        "This build of vLLM (or PyTorch) has no code for this GPU: the GPU is too old or too new for it.",
        "Install a build of vLLM for this GPU; its compute capability: nvidia-smi --query-gpu=compute_cap --format=csv",
    ),
    CauseRule(
        "no GPU",
        "ACODE-VLM-001",
        (
            "Failed to infer device type",
            "No CUDA GPUs are available",
            "no CUDA-capable device is detected",
            "No HIP GPUs are available",
            "CUDA unknown error",
            "Device string must not be empty",
            "No supported device detected",
        ),
        "vLLM was built for a GPU, and none can be used here.",
        "Install the NVIDIA driver and CUDA (or ROCm), and check with nvidia-smi or rocm-smi; on a machine without a "
        "GPU install vLLM's CPU build.",
    ),
    CauseRule(
        "too few GPUs",
        "ACODE-VLM-001",
        ("is larger than the number of available GPUs",),
        "{wanted} GPUs were asked for, and {there} are there.",
        "Lower providers.vllm.gpu.tensor_parallel_size or pipeline_parallel_size, or check device_map.",
        re.compile(r"World size \((?P<wanted>\d+)\).*available GPUs \((?P<there>\d+)\)"),
    ),
    CauseRule(
        "too few GPUs in Ray",
        "ACODE-VLM-001",
        (
            "exceeds the total number of available GPUs",
            "Ray does not allocate any GPUs",
            "Current node has no GPU available",
            "Cannot provide a placement group",
            "You don't have enough GPUs available",
            "Not enough resources to allocate",
        ),
        "Ray has fewer GPUs than were asked for: {line}",
        "Compare gpu.tensor_parallel_size × gpu.pipeline_parallel_size with: ray status",
    ),
    CauseRule(
        "GPU memory taken",
        "ACODE-VLM-006",
        ("is less than desired GPU memory utilization",),
        "Only {free} of {total} GiB are free on {device}, and vLLM was told to take {wanted} GiB "
        "(memory_utilization {share}).",
        "End what else uses the GPU (nvidia-smi shows it), or lower providers.vllm.gpu.memory_utilization.",
        re.compile(
            r"memory on (?P<device>device.*?) \((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\).*"
            r"utilization \((?P<share>[\d.]+), (?P<wanted>[\d.]+) GiB\)"
        ),
    ),
    CauseRule(
        "memory moved while it was measured",
        "ACODE-VLM-015",
        ("Error in memory profiling",),
        "Another process freed or took GPU memory while vLLM measured it: {line}",
        "Start again when the other process has started or ended for good.",
    ),
    CauseRule(
        "no memory for the KV cache",
        "ACODE-VLM-006",
        ("No available memory for the cache blocks",),
        "After the weights of {model} no memory is left for the KV cache.",
        "Raise providers.vllm.gpu.memory_utilization, or " + LESS,
    ),
    CauseRule(
        "context does not fit",
        "ACODE-VLM-026",
        ("which is larger than the available KV cache",),
        "The context of {len} tokens needs {need} GiB of KV cache, and {there} GiB are available.",
        "Set providers.vllm.max_model_len to at most {most}, or raise gpu.memory_utilization.",
        re.compile(
            r"max seq len \((?P<len>\d+)\)[^(]*\((?P<need>[\d.]+) GiB.*?memory \((?P<there>[\d.]+) GiB\)"
            r".*maximum model length is (?P<most>\d+)"
        ),
    ),
    CauseRule(
        "context does not fit at all",
        "ACODE-VLM-026",
        (
            "which is larger than the available KV cache",
            "than the maximum number of tokens that can be stored in KV cache",
        ),
        "The context is too long for the memory that is left for the KV cache: {line}",
        "Lower providers.vllm.max_model_len, or raise gpu.memory_utilization.",
    ),
    CauseRule(
        "CPU: no memory for the KV cache",
        "ACODE-VLM-006",
        ("is less than requested memory for kv",),
        "The KV cache of {wanted} GiB does not fit: {free} of {total} GiB of this machine's memory are free.",
        "Lower VLLM_CPU_KVCACHE_SPACE (GiB) in providers.vllm.env, or end other programs.",
        re.compile(r"\((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\).*for kv \((?P<wanted>[\d.]+)"),
    ),
    CauseRule(
        "out of GPU memory",
        "ACODE-VLM-006",
        ("out of memory. Tried to allocate",),
        "The GPU's memory ran out: {size} more were wanted, and {free} of {total} were free.",
        "Lower providers.vllm.gpu.memory_utilization if other programs use the GPU; else " + LESS,
        re.compile(
            r"Tried to allocate (?P<size>[\d.]+ \wiB).*capaci?ty of (?P<total>[\d.]+ \wiB)"
            r" of which (?P<free>[\d.]+ \wiB) is free"
        ),
    ),
    CauseRule(
        "out of GPU memory, no numbers",
        "ACODE-VLM-006",
        (
            "OutOfMemoryError",
            "CUDA out of memory",
            "HIP out of memory",
            "CUDA error: out of memory",
            "HIP error: out of memory",
            "CUBLAS_STATUS_ALLOC_FAILED",
            "CUDNN_STATUS_ALLOC_FAILED",
        ),
        "The GPU's memory ran out: {line}",
        "Lower providers.vllm.gpu.memory_utilization if other programs use the GPU; else " + LESS,
    ),
    CauseRule(
        "too many sequences",
        "ACODE-VLM-006",
        ("exceeds available Mamba cache",),
        "The cache has fewer blocks than requests may run at once: {line}",
        "Add --max-num-seqs with a smaller number to providers.vllm.extra_args.",
    ),
    CauseRule(
        "broken hardware",
        "ACODE-VLM-001",
        ("uncorrectable ECC error", "GPU has fallen off the bus", "GPU is lost"),
        "The GPU reports a hardware error: {line}",
        "Reset the GPU or reboot (nvidia-smi -q shows ECC and retired pages).",
    ),
    CauseRule(
        "GPU program failed",
        "ACODE-VLM-015",
        (
            "illegal memory access",
            "device-side assert",
            "unspecified launch failure",
            "illegal instruction was encountered",
            "misaligned address",
            "CUBLAS_STATUS_",
        ),
        "A program on the GPU failed: {line}",
        "It is restarted. If it happens again: another vLLM version, or --enforce-eager in providers.vllm.extra_args.",
        re.compile("rror"),
    ),
    CauseRule(
        "GPUs cannot talk",
        "ACODE-VLM-015",
        ("NCCL error", "ncclSystemError", "ncclUnhandledCudaError", "ncclInternalError", "RCCL error"),
        "The GPUs could not talk to one another: {line}",
        "Set NCCL_DEBUG=INFO in providers.vllm.env and look at the log; in a container give it shared memory "
        "(--shm-size=8g); NCCL_P2P_DISABLE=1 avoids direct links.",
    ),
    CauseRule(
        "CUDA error",
        "ACODE-VLM-015",
        ("CUDA error:", "HIP error:", "CUDA driver error", "CUDA failure"),
        "CUDA (or HIP) reported an error: {line}",
        LOOK,
        weight=Weight.VAGUE,
    ),
    CauseRule(
        "NVML",
        "ACODE-VLM-001",
        ("NVMLError", "Can't initialize NVML", "Failed to initialize NVML"),
        "The NVIDIA driver does not answer: {line}",
        LOOK,
        weight=Weight.VAGUE,
    ),
)
