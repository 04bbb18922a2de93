"""Causes in vLLM's installation: missing parts, and libraries and tools that do not fit together."""

from __future__ import annotations

import re

from acode_vllm.workers.diagnosis.cause_rule import CauseRule

REINSTALL = (
    "Install vLLM in a new environment of its own (https://docs.vllm.ai/en/latest/getting_started/installation/)."
)

RULES: tuple[CauseRule, ...] = (
    CauseRule(
        "vLLM is not installed",
        "ACODE-VLM-009",
        ("No module named vllm", "No module named 'vllm'"),
        "The Python in providers.vllm.command has no vLLM.",
        "Install vLLM there, or name the right command in providers.vllm.command.",
    ),
    CauseRule(
        "system library too old",
        "ACODE-VLM-009",
        ("GLIBC_", "GLIBCXX_", "CXXABI_"),
        "This system's {library} is too old: vLLM's libraries need {what}.",
        "Installing vLLM again does not help. Use a newer system or container image, or a newer libstdc++ (conda "
        "install -c conda-forge libstdcxx-ng) with its folder in LD_LIBRARY_PATH in providers.vllm.env.",
        re.compile(r"(?P<library>lib[\w+.-]+): version `(?P<what>(?:GLIBC|GLIBCXX|CXXABI)_[\w.]+)' not found"),
    ),
    CauseRule(
        "library missing",
        "ACODE-VLM-009",
        ("cannot open shared object file", "undefined symbol"),
        "vLLM's installation is broken: a binary library does not fit the others: {line}",
        REINSTALL,
        re.compile(r"rror.*(?:cannot open shared|undefined symbol)"),
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
        REINSTALL + " Or start it with: python -m vllm.entrypoints.openai.api_server, as providers.vllm.command.",
    ),
    CauseRule(
        "CUDA toolkit missing",
        "ACODE-VLM-009",
        ("CUDA_HOME environment variable is not set", "Could not find nvcc", "directory: 'nvcc'", "nvcc: not found"),
        "vLLM compiles GPU code while it starts, and the CUDA toolkit (nvcc) is not here: {line}",
        "Install the CUDA toolkit and set CUDA_HOME in providers.vllm.env, or avoid the library that compiles: "
        "--attention-backend FLASH_ATTN in providers.vllm.extra_args and VLLM_USE_FLASHINFER_SAMPLER=0 in env.",
    ),
    CauseRule(
        "CUDA toolkit too old",
        "ACODE-VLM-009",
        ("is not defined for option 'gpu-name'", "Unsupported gpu architecture", "Unsupported .version", "ptxas fatal"),
        "The CUDA compiler is too old for this GPU: {line}",
        "Install a newer CUDA toolkit and set TRITON_PTXAS_PATH to its ptxas (and CUDA_HOME) in providers.vllm.env, or "
        "install a vLLM that was built with a newer PyTorch.",
    ),
    CauseRule(
        "compiler missing",
        "ACODE-VLM-009",
        (
            "Failed to find C compiler",
            "Python.h: No such file",
            "Ninja is required",
            "No such file or directory: 'ninja'",
        ),
        "vLLM compiles code while it starts, and a tool for that is missing: {line}",
        "Install what it names (gcc, python3-dev, ninja), or add --enforce-eager to providers.vllm.extra_args.",
    ),
    CauseRule(
        "optional part missing",
        "ACODE-VLM-009",
        ("vllm[",),
        "vLLM's installation lacks an optional part that this model or option needs: {what}.",
        "In vLLM's environment: pip install '{what}'",
        re.compile(r"rror.*install \W*(?P<what>vllm\[[\w,-]+\])"),
    ),
    CauseRule(
        "package missing",
        "ACODE-VLM-009",
        ("ImportError: ", "ModuleNotFoundError: ", "RuntimeError: ", "ValueError: "),
        "vLLM needs a package that is not installed: {line}",
        "In vLLM's environment: pip install {what}",
        re.compile(r"rror: .*pip install (?:-U |--upgrade )?[\"']?(?P<what>[\w.\[\],<>=~-]*[\w\]])"),
    ),
    CauseRule(
        "transformers too new",
        "ACODE-VLM-009",
        ("all_special_tokens_extended",),
        "The transformers library is too new for this vLLM: {line}",
        "In vLLM's environment: pip install 'transformers<5', or a newer vLLM: pip install --upgrade vllm",
        re.compile(r"AttributeError: "),
    ),
    CauseRule(
        "libraries do not fit",
        "ACODE-VLM-009",
        ("has no attribute", "ImportError: cannot import name"),
        "Two libraries in vLLM's environment do not fit each other: {line}",
        "Run pip check in that environment to see which. pip install --upgrade vllm brings a set that fits; a library "
        "that was upgraded on its own (transformers above all) has to go back to the version that this vLLM requires.",
        re.compile(r"AttributeError: .*(?:module '|Tokenizer|Config|Processor).*has no attribute|cannot import name"),
    ),
    CauseRule(
        "module missing",
        "ACODE-VLM-009",
        (
            "ModuleNotFoundError: No module named",
            "numpy.dtype size changed",
            "compiled using NumPy 1.x",
            "VersionConflict",
            "Exec format error",
        ),
        "vLLM's installation is broken: {line}",
        REINSTALL,
    ),
)
