"""Causes in the model: its files, and what of it this vLLM, these devices and these options support."""

from __future__ import annotations

import re

from acode_vllm.workers.diagnosis.cause_rule import CauseRule, Weight

FETCH_AGAIN = "Fetch it again: delete the damaged file and start again, or copy the model again."
UPGRADE = "Use a newer vLLM (https://docs.vllm.ai/en/latest/models/supported_models/), or another model."

CONTEXT_TOO_LONG = CauseRule(
    "context longer than the model's",
    "ACODE-VLM-026",
    ("is greater than the derived max_model_len",),
    "max_model_len {wanted} is more than the model's own context of {own} tokens.",
    "Set providers.vllm.max_model_len to {own} or less, or leave it out.",
    re.compile(r"max_model_len \((?P<wanted>\d+)\) is greater than the derived max_model_len \(\w+=(?P<own>\d+)"),
)
"""The preflight reports it, too."""

RULES: tuple[CauseRule, ...] = (
    CONTEXT_TOO_LONG,
    CauseRule(
        "architecture not supported",
        "ACODE-VLM-025",
        ("are not supported for now", "failed to be inspected"),
        "vLLM does not support the architecture of {model}: {what}.",
        UPGRADE,
        re.compile(r"Model architectures (?P<what>\[.*?\])"),
    ),
    CauseRule(
        "GGUF architecture not supported",
        "ACODE-VLM-025",
        ("GGUF model with architecture", "Unknown gguf model_type"),
        "GGUF files of the architecture {what} are not supported by this vLLM.",
        "Use the model's own (safetensors) files or another model, or a newer vLLM and transformers.",
        re.compile(r"(?:with architecture|model_type:?) '?(?P<what>[\w.-]+)"),
    ),
    CauseRule(
        "architecture gone",
        "ACODE-VLM-025",
        ("is not supported in-tree anymore", "was supported in vLLM until"),
        "This version of vLLM no longer supports the architecture of {model}: {line}",
        "Use the plugin or the older vLLM that the log names, or another model.",
    ),
    CauseRule(
        "model type unknown",
        "ACODE-VLM-025",
        ("Transformers does not recognize this architecture",),
        "The transformers library that vLLM uses does not know the model type {what} of {model}.",
        "Update vLLM and transformers in vLLM's environment, or use another model.",
        re.compile(r"model type `(?P<what>[^`]*)`"),
    ),
    CauseRule(
        "needs its own code",
        "ACODE-VLM-025",
        (
            "contains custom code which must be executed",
            "requires you to execute",
            "set the option `trust_remote_code=True`",
            "consider setting `trust_remote_code=True`",
        ),
        "The model {model} brings its own Python code, which vLLM runs only where it is allowed to.",
        "Read that code at {link}; then add --trust-remote-code to providers.vllm.extra_args, or use another model.",
    ),
    CauseRule(
        "no config.json",
        "ACODE-VLM-025",
        (
            "Invalid repository ID or local directory specified",
            "does not appear to have a file named config.json",
            "No supported config format found",
        ),
        "There is no config.json (or params.json) in {model}: vLLM cannot tell what model it is.",
        "Check the folder or the ID: GGUF files and adapters are not whole models.",
    ),
    CauseRule(
        "configuration cannot be had",
        "ACODE-VLM-025",
        (
            "Can't load the configuration of",
            "Can't load image processor for",
            "Can't load feature extractor for",
            "Can't load processor for",
        ),
        "A configuration file of {what} cannot be loaded: it is missing, or a folder of the same name is in the way.",
        "Check that the model has a config.json (see {link}) and that no folder called {what} lies where vLLM looks, "
        "or give the model as an absolute path.",
        re.compile(r"Can't load [\w ]+ (?:of|for) '(?P<what>[^']*)'"),
    ),
    CauseRule(
        "config.json is damaged",
        "ACODE-VLM-025",
        ("is not a valid JSON file", "Should have a `model_type` key"),
        "The config.json of {model} cannot be used: {line}",
        FETCH_AGAIN,
    ),
    CauseRule(
        "weights are damaged",
        "ACODE-VLM-025",
        (
            "Error while deserializing header",
            "PytorchStreamReader failed",
            "UnpicklingError",
            "HeaderTooLarge",
            "InvalidHeaderDeserialization",
            "MetadataIncompleteBuffer",
            "InvalidHeaderLength",
        ),
        "A file of weights of {model} is damaged or incomplete: {line}",
        FETCH_AGAIN,
    ),
    CauseRule(
        "weights are missing",
        "ACODE-VLM-025",
        ("Weight files referenced in index but missing", "Cannot find any model weights", "No such file or directory"),
        "Weights of {model} are missing: {line}",
        "Fetch the missing files, or copy the model again.",
        re.compile(r"Weight files referenced|Cannot find any model weights|\.(safetensors|bin|pt|gguf)"),
    ),
    CauseRule(
        "weights do not fit",
        "ACODE-VLM-025",
        (
            "Attempted to load weight",
            "There is no module or parameter named",
            "were not initialized from checkpoint",
            "size mismatch for",
            "The size of tensor a",
        ),
        "The weights of {model} do not fit its config.json, or this vLLM: {line}",
        "Check that config.json belongs to these weights. " + UPGRADE,
    ),
    CauseRule(
        "unknown weight",
        "ACODE-VLM-025",
        ("KeyError: '",),
        "The model {model} has a weight that this vLLM does not expect: {line}",
        "Check that config.json belongs to these weights. " + UPGRADE,
        re.compile(r"KeyError: '[\w.]*(?:layers?\.|\.weight|_proj|lm_head|embed|experts)[\w.]*'"),
    ),
    CauseRule(
        "no tokenizer",
        "ACODE-VLM-025",
        ("Can't load tokenizer for", "Couldn't instantiate the backend tokenizer", "untagged enum ModelWrapper"),
        "The tokenizer of {model} is missing or cannot be read.",
        "Fetch tokenizer.json and tokenizer_config.json of the model, or name another tokenizer with --tokenizer in "
        "providers.vllm.extra_args.",
    ),
    CauseRule(
        "tokenizer class unknown",
        "ACODE-VLM-025",
        ("Tokenizer class",),
        "vLLM's transformers library does not know the tokenizer of {model}: {line}",
        UPGRADE,
        re.compile(r"Tokenizer class \S+ does not exist"),
    ),
    CauseRule(
        "quantization does not match",
        "ACODE-VLM-010",
        ("does not match the quantization method specified",),
        "The model {model} is quantized with {own}, but providers.vllm.quantization says {wanted}.",
        "Leave providers.vllm.quantization out: vLLM reads it from the model.",
        re.compile(r"model config \((?P<own>[^)]*)\).*argument \((?P<wanted>[^)]*)\)"),
    ),
    CauseRule(
        "quantization unknown",
        "ACODE-VLM-010",
        ("Unknown quantization method", "Invalid quantization method"),
        "This vLLM cannot load the quantization {what} of {model}.",
        "Correct or leave out providers.vllm.quantization; where the model's config.json names it, use another model.",
        re.compile(r"quantization method: (?P<what>[\w-]+)"),
    ),
    CauseRule(
        "quantization needs its config",
        "ACODE-VLM-010",
        ("Cannot find the config file for",),
        "The model {model} is not quantized in the way that providers.vllm.quantization says: {line}",
        "Leave providers.vllm.quantization out, or use a model that is quantized so.",
    ),
    CauseRule(
        "quantization needs a newer GPU",
        "ACODE-VLM-025",
        ("Min capability: ", "Minimum capability: "),
        "This GPU (compute capability {own}.{own_minor}) cannot run the quantization of {model}, which needs "
        "{least}.{least_minor}.",
        "Use the model without quantization or with another one, or a newer GPU.",
        re.compile(
            r"[Mm]in(?:imum)? capability: (?P<least>\d+)(?P<least_minor>\d)\. *"
            r"Current capability: (?P<own>\d+)(?P<own_minor>\d)\b"
        ),
    ),
    CauseRule(
        "quantization not on this device",
        "ACODE-VLM-025",
        ("quantization is currently not supported in", "is not supported for the current GPU"),
        "This device cannot run the quantization of {model}: {line}",
        "Use a version of the model without quantization, or with another one.",
    ),
    CauseRule(
        "bfloat16 not on this device",
        "ACODE-VLM-010",
        ("Bfloat16 is only supported on GPUs",),
        "This GPU is too old for bfloat16: {line}",
        "Set providers.vllm.dtype to float16.",
    ),
    CauseRule(
        "dtype does not fit",
        "ACODE-VLM-010",
        ("is not supported for quantization method", "does not support float16", "Unknown dtype"),
        "The dtype does not fit the model or its quantization: {line}",
        "Set or leave out providers.vllm.dtype.",
    ),
    CauseRule(
        "heads not divisible",
        "ACODE-VLM-010",
        ("must be divisible by tensor parallel size",),
        "The model {model} has {heads} attention heads, which {size} devices cannot share evenly.",
        "Set providers.vllm.gpu.tensor_parallel_size to a divisor of {heads}.",
        re.compile(r"heads \((?P<heads>\d+)\).*parallel size \((?P<size>\d+)\)"),
    ),
    CauseRule(
        "quantized weight not divisible",
        "ACODE-VLM-010",
        ("_size_per_partition",),
        "A quantized weight of {model} cannot be divided among so many devices: {line}",
        "Lower providers.vllm.gpu.tensor_parallel_size, or use the model with another quantization.",
        re.compile(r"rror: .*_size_per_partition.*divisible"),
    ),
    CauseRule(
        "not divisible",
        "ACODE-VLM-010",
        ("divisible by",),
        "Part of the model {model} cannot be divided evenly among the devices: {line}",
        "Choose another providers.vllm.gpu.tensor_parallel_size. Powers of two fit most models.",
        re.compile(
            r"AssertionError: \d+ is not divisible by \d+|"
            r"Error: (?=.*(?:parallel|partition|\btp|rank|heads|world)).*divisible by"
        ),
    ),
    CauseRule(
        "no pipeline parallelism",
        "ACODE-VLM-010",
        ("Pipeline parallelism is not supported",),
        "vLLM cannot run {model} with pipeline parallelism.",
        "Set providers.vllm.gpu.pipeline_parallel_size to 1, and use tensor_parallel_size.",
    ),
    CauseRule(
        "does not generate text",
        "ACODE-VLM-025",
        ("This model does not support `--runner generate`",),
        "The model {model} generates no text (it is an embedding or classification model).",
        "Use another model.",
    ),
    CauseRule(
        "chat template",
        "ACODE-VLM-010",
        ("looks like a file path, but it failed to be opened", "supplied chat template"),
        "The chat template cannot be read: {line}",
        "Correct --chat-template in providers.vllm.extra_args.",
    ),
    CauseRule(
        "damaged JSON",
        "ACODE-VLM-025",
        ("json.decoder.JSONDecodeError",),
        "A JSON file, most likely one of {model}, cannot be read: {line}",
        FETCH_AGAIN,
        weight=Weight.VAGUE,
    ),
)
