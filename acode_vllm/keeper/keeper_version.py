"""Which of two keepers is the older one, and hands over to the other."""

from __future__ import annotations

from acode_vllm._version import __version__


def is_older(version: str) -> bool:
    """Whether a keeper of this version is to hand over to this program."""
    return version_key(version) < version_key(__version__)


def version_key(version: str) -> tuple[int, ...]:
    """A version, for comparing: its numbers; what stands behind them (``rc1``) does not count."""
    numbers = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)
