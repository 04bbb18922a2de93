"""A large file of the hub, fetched so that a later run goes on in the middle of it.

The hub's own client goes on within one run alone: it names its unfinished file anew each time, and deletes it when it
fails or is interrupted. So large files are brought into the cache here, by the client's own streaming, under the name
that a finished file has there; the client then finds them, and does the rest.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from urllib.parse import urlsplit

from acode_vllm.workers.hub_client import HubQuestion

PIECE_BYTES = 10 * 1024 * 1024
"""The client writes in pieces of this size: of a smaller file there is never a part to go on with."""


def fetch_blob(question: HubQuestion, commit: str, name: str, blobs: Path) -> None:
    """Bring one file into the cache's folder of blobs. Blocks; interrupted or failed, it leaves what has come.

    One that runs beside it for the same file waits for this one, and has nothing left to do then.

    Args:
        question: Model, hub and token.
        commit: Of which the file is.
        name: Its path in the model.
        blobs: The folder.

    Raises:
        Exception: What the hub's client raises, for `acode_vllm.workers.hub_client.refusal`.
        OSError: The disk is full, or the cache cannot be written.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get

    url = hf_hub_url(question.model, name, revision=commit, endpoint=question.endpoint)
    token = question.token or False
    described = get_hf_file_metadata(url, token=token, timeout=question.deadline, endpoint=question.endpoint)
    if described.etag is None or described.size is None:
        return  # nothing to know the file by: the client has to manage
    blob = blobs / described.etag
    # The token is for the hub, not for the storage to which it points.
    at_hub = urlsplit(described.location).netloc == urlsplit(question.endpoint).netloc
    headers = {"authorization": f"Bearer {token}"} if token and at_hub else {}
    blobs.mkdir(parents=True, exist_ok=True)
    unfinished = blobs / f"{described.etag}.incomplete"
    with open(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if blob.exists():
            unfinished.unlink(missing_ok=True)
            return
        have = file.seek(0, os.SEEK_END)
        if have > described.size:
            have = file.truncate(0)
            file.seek(0)
        http_get(described.location, file, resume_size=have, headers=headers, expected_size=described.size)
        file.flush()
        unfinished.replace(blob)
