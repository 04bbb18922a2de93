"""How large an answer may be, so that no server can fill the memory of the program that asks it. A leaf."""

from __future__ import annotations

from dataclasses import dataclass

_MIB = 1024 * 1024


@dataclass(frozen=True)
class AnswerLimits:
    """Bytes, after decompression; far more than a language model writes.

    Attributes:
        answer_bytes: Of a whole answer, streamed or not.
        event_bytes: Of one event of a stream.
    """

    answer_bytes: int = 256 * _MIB
    event_bytes: int = 16 * _MIB


DEFAULT_LIMITS = AnswerLimits()


def too_large(what: str, limit: int) -> str:
    """Why an answer is given up."""
    return f"the {what} is larger than {limit} bytes"
