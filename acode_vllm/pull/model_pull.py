"""Fetching a model beforehand, by the hub's own client: resumable, into the cache where vLLM will look for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from acode_vllm.pull.resumable_fetch import PIECE_BYTES, check_files, fetch_blob, resumable_bytes
from acode_vllm.vocabulary.errors import Problem, VllmServiceError, error_for
from acode_vllm.vocabulary.loading import LoadProgress
from acode_vllm.vocabulary.model_id import parse_model_id
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.workers.model.download_progress import DownloadProgress
from acode_vllm.workers.model.hub_cache import repository_folder
from acode_vllm.workers.model.hub_client import (
    HubModel,
    HubQuestion,
    HubSilent,
    ask_hub,
    files_to_fetch,
    question_for,
    refusal,
)
from acode_vllm.workers.model.model_check import prepare_model, revision_of, weights_root

LOOK_SECONDS = 0.5
"""Between two looks at the growing files."""

Show = Callable[[LoadProgress], None]


def pull_model(model: str, options: VllmLifecycleOptions, env: Mapping[str, str], show: Show) -> int | None:
    """Fetch what vLLM needs of a model. Blocks until it is here; an interrupted pull goes on where it was.

    Args:
        model: Hub ID.
        options: The settings; in airgapped mode nothing is fetched.
        env: The environment: the cache's place, the hub, the token.
        show: Told how far it is, on a thread of its own.

    Returns:
        Bytes that were to be fetched; None where everything was here already.

    Raises:
        VllmServiceError: No such model, no permission, no room, no hub, airgapped (002, 003, 007, 012, 013); what
            arrived is not what the hub has (025); another pull of it stands still (027).
    """
    if parse_model_id(model).is_path:
        raise error_for(
            Problem("ACODE-VLM-010", f"{model} is a folder of this machine.", "Name a model of the hub: org/name.")
        )
    prepared = prepare_model(model, options, env, ask_hub)
    if isinstance(prepared, Problem):
        raise error_for(_for_a_pull(prepared))
    if prepared.cached:
        return None
    inherited = {**env, **options.server.env}
    question = question_for(model, revision_of(options), inherited)
    answer = ask_hub(question)
    if isinstance(answer, Problem):
        raise error_for(_for_a_pull(answer))
    if isinstance(answer, HubSilent):
        raise error_for(_silent(model, answer))
    cache = weights_root(options, inherited)
    folder = repository_folder(cache, model)
    progress = DownloadProgress(folder, prepared.download_bytes, resumable_bytes(folder / "blobs"))
    try:
        with _client_silent(), _WatchedPull(progress, show):
            _fetch(question, answer, cache)
    except VllmServiceError as error:
        raise error_for(_with(error.problem, progress)) from error
    return prepared.download_bytes or 0


def _for_a_pull(problem: Problem) -> Problem:
    """The same for somebody who is fetching already, and need not be told to."""
    if problem.code != "ACODE-VLM-013" or "pre-stage the model" not in problem.remedy:
        return problem
    return replace(problem, remedy="Check the network and HF_ENDPOINT, then run the same command again.")


def _fetch(question: HubQuestion, answer: HubModel, cache: Path) -> None:
    from huggingface_hub import snapshot_download

    wanted = files_to_fetch(answer, None)
    blobs = repository_folder(cache, question.model) / "blobs"
    try:
        for name, size in wanted.items():
            if size > PIECE_BYTES:
                fetch_blob(question, answer.commit or question.revision, name, blobs)
        snapshot = snapshot_download(
            question.model,
            revision=answer.commit or question.revision,
            cache_dir=cache,
            token=question.token or False,
            endpoint=question.endpoint,
            allow_patterns=sorted(wanted),
        )
        check_files(question.model, Path(snapshot), [name for name, size in wanted.items() if size <= PIECE_BYTES])
        _point_at(cache, question, answer.commit)
    except VllmServiceError:
        raise
    except Exception as error:
        found = refusal(question, error)
        if isinstance(found, HubSilent) and any("Timeout" in kind.__name__ for kind in type(error).__mro__):
            # The client has tried to go on several times by now, each with a patience of its own.
            found = HubSilent(f"{question.endpoint} sends nothing more")
        problem = _silent(question.model, found) if isinstance(found, HubSilent) else found
        raise error_for(problem) from error


def _with(problem: Problem, progress: DownloadProgress) -> Problem:
    """The problem, with how far the download has come."""
    progress.look()
    return replace(problem, evidence=(*problem.evidence, f"arrived: {progress.arrived}"))


@contextmanager
def _client_silent() -> Iterator[None]:
    """Keep the client's progress bars and warnings back: one line for the whole, and one error, are told instead."""
    from huggingface_hub.utils.logging import get_verbosity, set_verbosity
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    before = get_verbosity()
    disable_progress_bars()
    set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        set_verbosity(before)
        enable_progress_bars()


def _point_at(cache: Path, question: HubQuestion, commit: str) -> None:
    """Make the branch's name stand for the commit, as the client does for a name that it was asked for."""
    if commit and commit != question.revision:
        reference = repository_folder(cache, question.model) / "refs" / question.revision
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(commit, encoding="ascii")


def _silent(model: str, answer: HubSilent) -> Problem:
    return Problem(
        "ACODE-VLM-013",
        f"The model {model} could not be fetched: {answer.why}.",
        "Check the network and run the same command again: what has arrived is kept.",
    )


class _WatchedPull:
    """Looks at the growing files on a thread of its own while a download runs."""

    def __init__(self, progress: DownloadProgress, show: Show) -> None:
        self._progress = progress
        self._show = show
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="acode-pull", daemon=True)

    def _run(self) -> None:
        while not self._done.wait(LOOK_SECONDS):
            step = self._progress.look()
            if step is not None:
                self._show(step)

    def __enter__(self) -> _WatchedPull:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._done.set()
        self._thread.join()
