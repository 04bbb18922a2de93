"""What the model hub says about a model: does it exist, may we have it, how large is it (FR-013, FR-025).

`huggingface_hub` takes half a second to import, so it is imported at the first question: never for a cached model.
"""

from __future__ import annotations

import errno
import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.redaction import redact
from acode_vllm.workers.diagnosis.cause_rule import CauseRule, match_line, problem_of
from acode_vllm.workers.model.hub_cache import hub_home

DEFAULT_ENDPOINT = "https://huggingface.co"
DEADLINE = 5.0
"""Seconds that the hub may take per answer."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt")
_NEVER_FETCHED = ("original/*", "*.onnx", "*.h5", "*.msgpack", "*.ot", "*.tflite", "*.gguf", "*.pth", "*.md", "*.png")


@dataclass(frozen=True)
class HubQuestion:
    """A question to the hub about one model.

    Attributes:
        model: ``org/name``.
        revision: Branch, tag or commit.
        endpoint: The hub's URL.
        token: The user's token; None to ask without one.
        deadline: Seconds per answer.
    """

    model: str
    revision: str = "main"
    endpoint: str = DEFAULT_ENDPOINT
    token: str | None = field(default=None, repr=False)
    deadline: float = DEADLINE


@dataclass(frozen=True)
class HubModel:
    """A model that may be fetched, as the hub describes it.

    Attributes:
        commit: What the revision stands for now.
        files: Name → bytes.
    """

    commit: str
    files: Mapping[str, int]


@dataclass(frozen=True)
class HubSilent:
    """The hub did not answer in time: nothing is known.

    Attributes:
        why: The reason in a few words.
    """

    why: str


HubAnswer = HubModel | HubSilent | Problem


def question_for(model: str, revision: str, env: Mapping[str, str], deadline: float = DEADLINE) -> HubQuestion:
    """The question as vLLM would ask it in this environment: the same hub, the same token."""
    endpoint = (env.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
    return HubQuestion(model, revision, endpoint, find_token(env), deadline)


def find_token(env: Mapping[str, str]) -> str | None:
    """The token from the environment, or else the one that ``hf auth login`` saved; None without one."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if env.get(name, "").strip():
            return env[name].strip()
    file = Path(env["HF_TOKEN_PATH"]) if env.get("HF_TOKEN_PATH") else hub_home(env) / "token"
    try:
        return file.read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def ask_hub(question: HubQuestion) -> HubAnswer:
    """Ask the hub. Blocks for at most a few times the deadline. Any thread."""
    from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import OfflineModeIsEnabled

    token: str | bool = question.token or False
    api = HfApi(endpoint=question.endpoint, token=token)
    try:
        info = api.model_info(
            question.model, revision=question.revision, timeout=question.deadline, files_metadata=True, token=token
        )
        files = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        if info.gated and files:
            # A gated model's description is public; only its files show whether this token has access.
            name = "config.json" if "config.json" in files else min(files)
            url = hf_hub_url(question.model, name, revision=question.revision, endpoint=question.endpoint)
            get_hf_file_metadata(url, token=token, timeout=question.deadline, endpoint=question.endpoint)
    except OfflineModeIsEnabled:
        return HubSilent("HF_HUB_OFFLINE is set for this program")
    except Exception as error:  # noqa: BLE001 - the client's HTTP library changed twice, and its errors with it
        return refusal(question, error)
    return HubModel(info.sha or "", files)


_CASES: tuple[tuple[str, int | None, bool | None, str], ...] = (
    # The client's error, the status, whether a token was sent (None: either) → row of `causes_hub`.
    ("GatedRepoError", None, True, "gated, no permission"),
    ("GatedRepoError", None, False, "gated, no token"),
    ("RepositoryNotFoundError", 401, None, "not found or private (401)"),
    ("RepositoryNotFoundError", None, None, "not found (404)"),
    ("RevisionNotFoundError", None, None, "no such revision"),
    ("DisabledRepoError", None, None, "disabled"),
    ("HfHubHTTPError", 401, None, "token refused"),
    ("HfHubHTTPError", 403, None, "token lacks permission"),
)


_CONNECTION_ROWS = ("certificate", "proxy", "download cut")
"""Rows of `causes_hub` that are more precise than "the hub cannot be reached"."""


def refusal(question: HubQuestion, error: Exception) -> HubSilent | Problem:
    """What an error of the hub's client means; re-raises an error that is not about the hub."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    status = getattr(getattr(error, "response", None), "status_code", None)
    said = (getattr(error, "server_message", None) or str(error)).strip().partition("\n")[0]
    lines = [f"{question.endpoint} answered {status}: {said}" if status else f"{question.endpoint}: {said}"]
    for kind, wanted, with_token, name in _CASES:
        if kind in kinds and wanted in (None, status) and with_token in (None, question.token is not None):
            return problem_of(_row(name), question.model, lines)
    if status is not None:
        return HubSilent(redact(lines[0]))
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return problem_of(_row("disk full"), question.model, [said])
    if isinstance(error, PermissionError):
        return problem_of(_row("permission denied"), question.model, [said])
    if any("Timeout" in kind for kind in kinds):
        return HubSilent(f"{question.endpoint} gave no answer within {question.deadline:g} s")
    if isinstance(error, OSError) or "TransportError" in kinds:
        match = match_line([_row(name) for name in _CONNECTION_ROWS], said)
        return problem_of(match.rule if match else _row("hub unreachable"), question.model, lines)
    raise error


def _row(name: str) -> CauseRule:
    from acode_vllm.workers.diagnosis import causes_hub, causes_machine  # 40 KB of text, rarely needed

    return next(rule for rule in (*causes_hub.RULES, *causes_machine.RULES) if rule.name == name)


def bytes_to_fetch(answer: HubModel, have: Path | None) -> int:
    """Bytes that vLLM will fetch of a model: the weights in the format it prefers, and the small files.

    Args:
        answer: The model on the hub.
        have: The cache's folder of this commit, if there is one.
    """
    return sum(files_to_fetch(answer, have).values())


def files_to_fetch(answer: HubModel, have: Path | None) -> dict[str, int]:
    """The files that `bytes_to_fetch` counts, with their sizes."""
    kind = _kind_of_weights(answer)
    return {
        name: size
        for name, size in _fetchable(answer).items()
        if (not _fits(name, _WEIGHTS) or _fits(name, (kind,))) and not (have is not None and (have / name).exists())
    }


def weight_bytes(answer: HubModel) -> int:
    """Size of the weights in the format that vLLM prefers."""
    kind = _kind_of_weights(answer)
    return sum(size for name, size in _fetchable(answer).items() if _fits(name, (kind,)))


def _kind_of_weights(answer: HubModel) -> str:
    return next((kind for kind in _WEIGHTS if any(_fits(name, (kind,)) for name in _fetchable(answer))), _WEIGHTS[0])


def _fetchable(answer: HubModel) -> dict[str, int]:
    return {name: size for name, size in answer.files.items() if not _fits(name, _NEVER_FETCHED)}


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
