"""The oldest versions of vLLM that work and that are supported (NFR-017). Pure."""

from __future__ import annotations

import re

from acode_vllm.vocabulary.errors import Problem

OLDEST = (0, 4, 0)
"""Older versions lack ``/health`` and the options that we use."""
OLDEST_SUPPORTED = (0, 12, 0)
"""Released in December 2025, 12 months before this release."""

_RELEASE = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


def release_of(version: str) -> tuple[int, int, int] | None:
    """``0.32.0+cpu`` as (0, 32, 0); None if unknown.

    Any build from a source tree without tags calls itself 0.1.dev….
    """
    match = _RELEASE.match(version)
    if match is None:
        return None
    release = (int(match[1]), int(match[2]), int(match[3] or 0))
    return None if "dev" in version and release < OLDEST else release


def too_old(version: str, where: str) -> Problem | None:
    """Problem 009 for a version that cannot work; None for any other or unknown one.

    Args:
        version: The version of vLLM's distribution.
        where: The command that starts it.
    """
    release = release_of(version)
    if release is None or release >= OLDEST:
        return None
    return Problem(
        "ACODE-VLM-009",
        f"vLLM {version} is too old: {_shown(OLDEST)} is the oldest that can be used.",
        "Update it: pip install --upgrade vllm.",
        (where,),
    )


def unsupported(version: str) -> str:
    """A warning for a version that may work but is not supported; empty for any other."""
    release = release_of(version)
    if release is None or not OLDEST <= release < OLDEST_SUPPORTED:
        return ""
    return (
        f"vLLM {version} is older than {_shown(OLDEST_SUPPORTED)}: only releases of the last 12 months are supported. "
        "Update it if something does not work: pip install --upgrade vllm"
    )


def _shown(release: tuple[int, int, int]) -> str:
    return ".".join(map(str, release))
