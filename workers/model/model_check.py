"""Checks a model before a start: is it here, may it be fetched, is there space for it (FR-013, FR-021, FR-024).

A completely cached model starts with the hub switched off: vLLM would otherwise ask the hub for each file, and retry
for minutes if it is down. In airgapped mode nothing is ever fetched.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.exhaustive import assert_never
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.vocabulary.states import OperatingMode
from acode_vllm.workers.messages.model_messages import PreparedModel
from acode_vllm.workers.model.download_progress import in_units
from acode_vllm.workers.model.hub_cache import (
    Absent,
    Broken,
    Complete,
    Partial,
    Presence,
    cache_root,
    look_into,
    look_up,
    repository_folder,
)
from acode_vllm.workers.model.hub_client import (
    HubAnswer,
    HubQuestion,
    HubSilent,
    bytes_to_fetch,
    question_for,
    weight_bytes,
)

SPARE_BYTES = 5 * 10**9
"""Disk space that a download leaves free."""

HUB_OFF = {"HF_HUB_OFFLINE": "1"}
AIRGAPPED = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}

_TRUE = ("1", "on", "yes", "true")
_OTHER_REPOSITORIES = (
    "tokenizer",
    "hf-config-path",
    "speculative-config",
    "speculative-model",
    "lora-modules",
    "code-revision",
    "tokenizer-revision",
)
"""vLLM options that may name another repository to fetch: then a cached model is not enough."""

AskHub = Callable[[HubQuestion], HubAnswer]
FreeBytes = Callable[[Path], int]


def free_bytes(folder: Path) -> int:
    """Free bytes of the disk that a folder is or will be on."""
    while not folder.exists():
        folder = folder.parent
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def argument(extra_args: tuple[str, ...], name: str) -> str | None:
    """The value of an option in vLLM's extra arguments; "" for one without a value, None if it is not given."""
    for place, text in enumerate(extra_args):
        option, equals, value = text.partition("=")
        if option.startswith("--") and option[2:].replace("_", "-") == name:
            following = extra_args[place + 1] if place + 1 < len(extra_args) else ""
            return value if equals else "" if following.startswith("--") else following
    return None


def prepare_model(
    model: str,
    options: VllmLifecycleOptions,
    env: Mapping[str, str],
    ask: AskHub,
    free: FreeBytes = free_bytes,
) -> PreparedModel | Problem:
    """Check a model; returns what is known about it, or why it cannot be loaded.

    Blocks while the hub answers. The hub is asked only about a model that is not completely cached, and never in
    airgapped mode.

    Args:
        model: Hub ID or absolute path, in valid form.
        options: The settings.
        env: The environment that vLLM will inherit.
        ask: Asks the hub.
        free: Returns the free bytes of a disk.
    """
    env = {**env, **options.server.env}
    airgapped = options.operating_mode is OperatingMode.AIRGAPPED
    try:
        if model.startswith("/"):
            return _local_folder(model, options, AIRGAPPED if airgapped else {})
        presence = _cached(model, options, env)
    except OSError as error:
        message = f"The files of the model {model} cannot be read: {error.strerror}: {error.filename}"
        return Problem("ACODE-VLM-032", message, "Correct the permissions of that path.")
    if isinstance(presence, Broken):
        return _broken(model, presence, "Delete that file in the cache; it is fetched again at the next start.")
    off = airgapped or env.get("HF_HUB_OFFLINE", "").strip().lower() in _TRUE
    if isinstance(presence, Complete):
        whole = not _needs_more(options)
        extra = AIRGAPPED if airgapped else HUB_OFF if whole else {}
        return PreparedModel(model, whole, extra, weight_bytes=presence.weight_bytes, folder=presence.folder)
    if off:
        return _not_here(model, presence, airgapped)
    return _from_hub(model, options, env, ask, free)


def _wants_tokenizer(options: VllmLifecycleOptions) -> bool:
    args = options.server.extra_args
    return argument(args, "tokenizer") is None and argument(args, "skip-tokenizer-init") is None


def _wants_weights(options: VllmLifecycleOptions) -> bool:
    """Whether the weights are files of the usual kinds in the model's folder."""
    return argument(options.server.extra_args, "load-format") in (None, "", "auto", "safetensors", "hf", "pt")


def _needs_more(options: VllmLifecycleOptions) -> bool:
    args = options.server.extra_args
    values = [argument(args, name) for name in _OTHER_REPOSITORIES]
    return any(value is not None and not value.startswith("/") for value in values)


def revision_of(options: VllmLifecycleOptions) -> str:
    """The branch, tag or commit that vLLM will load."""
    return argument(options.server.extra_args, "revision") or "main"


def weights_root(options: VllmLifecycleOptions, env: Mapping[str, str]) -> Path:
    """The cache into which vLLM will fetch the model: the hub's, or ``--download-dir``."""
    named = argument(options.server.extra_args, "download-dir")
    return Path(named) if named else cache_root(env)


def _cached(model: str, options: VllmLifecycleOptions, env: Mapping[str, str]) -> Presence:
    root = weights_root(options, env)
    return look_up(
        root, model, revision_of(options), tokenizer=_wants_tokenizer(options), weights=_wants_weights(options)
    )


def _local_folder(model: str, options: VllmLifecycleOptions, env: Mapping[str, str]) -> PreparedModel | Problem:
    if model.endswith(".gguf") and Path(model).is_file():
        return PreparedModel(model, True, env, weight_bytes=Path(model).stat().st_size)
    presence = look_into(Path(model), tokenizer=_wants_tokenizer(options), weights=_wants_weights(options))
    match presence:
        case Absent():
            return Problem("ACODE-VLM-025", f"There is no model folder {model}.", "Check the path.")
        case Partial(_, missing):
            message = f"The model folder {model} is not complete: {_listed(missing)} is missing."
            return Problem("ACODE-VLM-025", message, "Copy the model anew, with all its files.")
        case Broken():
            return _broken(model, presence, "Copy that file anew.")
        case Complete():
            return PreparedModel(model, True, env, weight_bytes=presence.weight_bytes, folder=presence.folder)
        case _:
            return assert_never(presence)


def _broken(model: str, presence: Broken, remedy: str) -> Problem:
    message = f"A file of the model {model} is damaged: {presence.files[0]}"
    return Problem("ACODE-VLM-025", message, remedy, tuple(f"{presence.folder}/{file}" for file in presence.files[:3]))


def _not_here(model: str, presence: Partial | Absent, airgapped: bool) -> Problem:
    why = "nothing may be fetched in airgapped mode" if airgapped else "HF_HUB_OFFLINE is set"
    how = "is not in the local cache"
    if isinstance(presence, Partial):
        how = f"is only partly in the local cache ({_listed(presence.missing)} is missing)"
    leave = "leave airgapped mode" if airgapped else "unset HF_HUB_OFFLINE"
    return Problem(
        "ACODE-VLM-007",
        f"The model {model} {how}, and {why}.",
        f"Pre-stage it where the hub can be reached (acode providers pull-model vllm {model}), or {leave}.",
        (f"looked in {presence.folder}",),
    )


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _from_hub(
    model: str,
    options: VllmLifecycleOptions,
    env: Mapping[str, str],
    ask: AskHub,
    free: FreeBytes,
) -> PreparedModel | Problem:
    if env.get("VLLM_USE_MODELSCOPE", "").strip().lower() in _TRUE:
        return PreparedModel(model, False, {}, warnings=("the model comes from ModelScope, which was not asked",))
    root = weights_root(options, env)
    folder = repository_folder(root, model)
    answer = ask(question_for(model, revision_of(options), env))
    if isinstance(answer, Problem):
        return answer
    if isinstance(answer, HubSilent):
        warning = f"the model hub could not be asked: {answer.why}"
        return PreparedModel(model, False, {}, warnings=(warning,), download_folder=folder)
    snapshot = folder / "snapshots" / answer.commit
    wanted = bytes_to_fetch(answer, snapshot if snapshot.is_dir() else None)
    room = free(root)
    if wanted + SPARE_BYTES > room:
        return Problem(
            "ACODE-VLM-012",
            f"Fetching the model {model} needs {in_units(wanted)} and 5 GB to spare; {in_units(room)} are free.",
            "Free space, or move HF_HOME to a larger disk.",
            (f"{in_units(room)} free on the disk of {root}",),
        )
    return PreparedModel(model, False, {}, wanted, download_folder=folder, weight_bytes=weight_bytes(answer))
