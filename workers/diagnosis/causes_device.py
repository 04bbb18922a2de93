"""Causes in the GPU: its driver, its memory, and the memory that vLLM plans with (on a CPU: the machine's)."""

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
        "The loaded NVIDIA driver does not match its libraries: it was updated but not reloaded.",
        "Reboot, or reload the driver's kernel modules. Then check with nvidia-smi.",
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
        "vLLM was told to use a GPU that this machine does not have.",
        "Check providers.vllm.gpu.device_map and tensor_parallel_size against nvidia-smi -L.",
    ),
    CauseRule(
        "device busy",
        "ACODE-VLM-001",
        ("CUDA-capable device(s) is/are busy", "devices are busy or unavailable"),
        "Another process holds the GPU in exclusive mode, or the GPU is unavailable.",
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
        "attention backend not on this GPU",
        "ACODE-VLM-010",
        (
            "requires GPUs with",
            "only supports Ampere GPUs or newer",
            "is only supported on devices with compute capability",
        ),
        "This GPU cannot run the chosen attention backend or kernel library: {line}",
        "Choose another one: --attention-backend TRITON_ATTN (or FLASH_ATTN) in providers.vllm.extra_args, or for an "
        "older vLLM VLLM_ATTENTION_BACKEND in providers.vllm.env. Otherwise a newer GPU is needed.",
        re.compile("rror"),
    ),
    CauseRule(
        "attention backend does not fit",
        "ACODE-VLM-010",
        ("is not valid for this configuration", "No valid attention backend found"),
        "The attention backend does not fit this model, these settings or this GPU: {line}",
        "Remove --attention-backend (or VLLM_ATTENTION_BACKEND) so that vLLM chooses, or change the setting that the "
        "line names (dtype, kv-cache-dtype).",
        re.compile("rror"),
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
        "vLLM was built for a GPU, and there is none that it can use.",
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
        "CPU: memory taken",
        "ACODE-VLM-006",
        ("is less than desired CPU memory utilization",),
        "Only {free} of {total} GiB of this machine's memory are free, and vLLM was told to take {wanted} GiB "
        "(memory_utilization {share}).",
        "Set VLLM_CPU_KVCACHE_SPACE (GiB) in providers.vllm.env, or lower providers.vllm.gpu.memory_utilization.",
        re.compile(
            r"\((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\).*utilization \((?P<share>[\d.]+), (?P<wanted>[\d.]+) GiB\)"
        ),
    ),
    CauseRule(
        "memory moved while it was measured",
        "ACODE-VLM-015",
        ("Error in memory profiling",),
        "Another process freed or took GPU memory while vLLM measured it: {line}",
        "Start again once that process runs steadily or has ended.",
    ),
    CauseRule(
        "no memory for the KV cache",
        "ACODE-VLM-006",
        ("No available memory for the cache blocks",),
        "The weights of {model} leave no memory for the KV cache.",
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
        "The context is too long for the memory that remains for the KV cache: {line}",
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
        "The GPU ran out of memory: it had {free} of {total} free, and vLLM needed {size} more.",
        "If other programs use the GPU, lower providers.vllm.gpu.memory_utilization; otherwise " + LESS,
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
        "The GPU ran out of memory: {line}",
        "If other programs use the GPU, lower providers.vllm.gpu.memory_utilization; otherwise " + LESS,
    ),
    CauseRule(
        "too many sequences",
        "ACODE-VLM-006",
        ("exceeds available Mamba cache",),
        "The cache has fewer blocks than the number of requests that may run at once: {line}",
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
        "vLLM is restarted. If it happens again, try another version of vLLM, or --enforce-eager in "
        "providers.vllm.extra_args.",
        re.compile("rror"),
    ),
    CauseRule(
        "GPUs cannot talk",
        "ACODE-VLM-015",
        ("NCCL error", "ncclSystemError", "ncclUnhandledCudaError", "ncclInternalError", "RCCL error"),
        "The GPUs could not communicate with each other: {line}",
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
