"""A large file of the hub, fetched so that a later run goes on in the middle of it, and checked when it is whole.

The hub's own client goes on within one run alone: it names its unfinished file anew each time, and deletes it when it
fails or is interrupted. So large files are brought into the cache here, by the client's own streaming, under the name
that a finished file has there; the client then finds them, and does the rest. It is one connection, one file after the
other: slower than the client's parallel transfer (hf_xet) where the line is fast.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from acode_vllm.pull.fetch_lock import IDLE_SECONDS, lock_file
from acode_vllm.vocabulary.errors import Problem, error_for
from acode_vllm.workers.model.hub_client import HubQuestion

PIECE_BYTES = 10 * 1024 * 1024
"""The client writes in pieces of this size: of a smaller file there is never a part to go on with."""


_UNFINISHED = re.compile(r"[0-9a-f]{40,64}\.incomplete")


def fetch_blob(
    question: HubQuestion, commit: str, name: str, blobs: Path, *, idle_seconds: float = IDLE_SECONDS
) -> None:
    """Bring one file into the cache's folder of blobs. Blocks; interrupted or failed, it leaves what has come.

    One that runs beside it for the same file is waited for, as long as something arrives; then nothing is left to do.

    Args:
        question: Model, hub and token.
        commit: Of which the file is.
        name: Its path in the model.
        blobs: The folder.
        idle_seconds: How long another that fetches it may stand still.

    Raises:
        Exception: What the hub's client raises, for `acode_vllm.workers.model.hub_client.refusal`.
        OSError: The disk is full, or the cache cannot be written.
        VllmServiceError: Another pull holds the file and stands still, or what arrived is not what the hub has.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get

    url = hf_hub_url(question.model, name, revision=commit, endpoint=question.endpoint)
    token = question.token or False
    described = get_hf_file_metadata(url, token=token, timeout=question.deadline, endpoint=question.endpoint)
    if described.etag is None or described.size is None:
        return  # nothing to know the file by: the client has to manage
    if described.size > constants.MAX_HTTP_DOWNLOAD_SIZE:
        return  # the hub gives no such file over one connection: the client has another way
    blob = blobs / described.etag
    # The token is for the hub, not for the storage to which it points.
    at_hub = urlsplit(described.location).netloc == urlsplit(question.endpoint).netloc
    headers = {"authorization": f"Bearer {token}"} if token and at_hub else {}
    blobs.mkdir(parents=True, exist_ok=True)
    unfinished = blobs / f"{described.etag}.incomplete"
    with open(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+b") as file:
        lock_file(file, unfinished, name, idle_seconds)
        if blob.exists():
            unfinished.unlink(missing_ok=True)
            return
        have = file.seek(0, os.SEEK_END)
        if have > described.size:
            have = file.truncate(0)
            file.seek(0)
        http_get(described.location, file, resume_size=have, headers=headers, expected_size=described.size)
        file.flush()
        flaw = sha256_flaw(unfinished, described.etag)
        if flaw:
            unfinished.unlink(missing_ok=True)
            raise error_for(_altered(question.model, name, flaw))
        unfinished.replace(blob)


def resumable_bytes(blobs: Path) -> int:
    """What earlier pulls have left, for the next one to go on with."""
    return sum(file.stat().st_size for file in blobs.glob("*.incomplete") if _UNFINISHED.fullmatch(file.name))


def check_files(model: str, snapshot: Path, names: Iterable[str]) -> None:
    """Hold what the client itself has fetched against the hashes by which the hub knows it.

    The client compares sizes alone. A file that is not what the hub has is removed, so that it is fetched anew.

    Args:
        model: The model's ID.
        snapshot: The commit's folder in the cache.
        names: Files of it.

    Raises:
        VllmServiceError: One of them is not what the hub has.
    """
    for name in names:
        link = snapshot / name
        blob = link.resolve()
        flaw = sha256_flaw(blob, blob.name)
        if flaw:
            link.unlink(missing_ok=True)
            blob.unlink(missing_ok=True)
            raise error_for(_altered(model, name, flaw))


def _altered(model: str, name: str, flaw: str) -> Problem:
    return Problem(
        "ACODE-VLM-025",
        f"What arrived as {name} of the model {model} is not what the hub has.",
        "Run the same command again: the file was thrown away and is fetched anew. If it happens again, a proxy on the"
        " way or the disk alters files.",
        (flaw,),
    )


CHUNK = 4 * 1024 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")
"""An etag of the hub that is the hash of the file; files kept in Git itself have a shorter one, of another kind."""


def sha256_flaw(file: Path, etag: str) -> str:
    """How a file differs from what its etag says; empty where it does not, or where the etag is no SHA-256.

    Reads the whole file: about a second for a gigabyte. A signal's handler is heard in between.
    """
    if not _SHA256.fullmatch(etag):
        return ""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while piece := stream.read(CHUNK):
            digest.update(piece)
    found = digest.hexdigest()
    return "" if found == etag else f"SHA-256 {found[:12]}… instead of {etag[:12]}…, {file.stat().st_size} bytes"
