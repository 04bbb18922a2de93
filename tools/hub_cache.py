"""Puts a model folder into a Hugging Face cache, laid out exactly as ``huggingface_hub`` does it.

    hub/models--org--name/refs/main                  the revision, 40 hexadecimal digits
    hub/models--org--name/blobs/HASH                 the files, named by their content
    hub/models--org--name/snapshots/REVISION/FILE    relative links to the blobs

So an ID that exists on no hub resolves offline (``HF_HOME``, ``HF_HUB_OFFLINE=1``). Only the standard library.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from pathlib import Path


def repository_folder(hub: Path, model_id: str) -> Path:
    """Where the cache ``hub`` keeps the model ``org/name``."""
    return hub / f"models--{model_id.replace('/', '--')}"


def store(hub: Path, model_id: str, folder: Path) -> Path:
    """Copies the files of ``folder`` into the cache as ``model_id``; what was there under that ID is replaced.

    The new entry is put in place by one rename, so that a reader never sees a half-written one.

    Args:
        hub: The cache, ``$HF_HOME/hub``; made where it is missing.
        model_id: ``org/name``.
        folder: A flat folder of model files.

    Returns:
        The snapshot folder that the ID resolves to.
    """
    hub.mkdir(parents=True, exist_ok=True)
    target = repository_folder(hub, model_id)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=hub) as scratch:
        made = Path(scratch) / target.name
        for part in ("blobs", "refs"):
            (made / part).mkdir(parents=True)
        names = {file.name: _blob(made / "blobs", file) for file in sorted(folder.iterdir()) if file.is_file()}
        revision = hashlib.sha1(repr(names).encode(), usedforsecurity=False).hexdigest()
        snapshot = made / "snapshots" / revision
        snapshot.mkdir(parents=True)
        for name, blob in names.items():
            (snapshot / name).symlink_to(Path("..", "..", "blobs", blob))
        (made / "refs" / "main").write_text(revision, encoding="ascii")
        with contextlib.suppress(FileNotFoundError):
            os.rename(target, Path(scratch) / "old")
        os.rename(made, target)
    return target / "snapshots" / revision


def _blob(blobs: Path, file: Path) -> str:
    content = file.read_bytes()
    if file.suffix == ".safetensors":  # the hub names large files by SHA-256, small ones as git does
        name = hashlib.sha256(content).hexdigest()
    else:
        name = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    shutil.copyfile(file, blobs / name)
    return name
