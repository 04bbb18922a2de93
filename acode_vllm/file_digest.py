"""Holds a file against the SHA-256 by which the hub knows it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

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
