"""Is an answer whole? A vLLM that is stopped ends its answers as if they were: pure decisions.

It answers 200 with the text so far and ``finish_reason`` ``abort``, or closes a stream with ``[DONE]`` and no
``finish_reason`` at all. Every whole choice has a reason to have finished, in the answers of vLLM and of every other
server of this API.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

CUT_OFF = "the server was stopped and cut the answer off"
_GIVEN_UP = frozenset({"abort", "error"})
"""Reasons to finish that are no end."""


def generation_fault(answer: Mapping[str, Any]) -> str | None:
    """What is missing from an answer to a chat or a completion; None where it is whole."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        return "the answer holds no choices"
    whole = all(isinstance(choice, dict) and _has_finished(choice) for choice in choices)
    return None if whole else CUT_OFF


def embedding_fault(answer: Mapping[str, Any], texts: object) -> str | None:
    """What is missing from the embeddings of ``texts``; None where each has its own."""
    data = answer.get("data")
    entries = data if isinstance(data, list) else []
    # A text alone, or one that is given as its tokens, is one text.
    several = isinstance(texts, Sequence) and not isinstance(texts, str) and not all(type(t) is int for t in texts)
    wanted = len(texts) if several and isinstance(texts, Sequence) else 1
    whole = sum(1 for entry in entries if isinstance(entry, dict) and entry.get("embedding"))
    return None if whole == wanted else f"the answer holds {whole} of {wanted} embeddings"


def was_given_up(chunk: Mapping[str, Any]) -> bool:
    """Whether the server says in this chunk that it gave up."""
    return any(choice.get("finish_reason") in _GIVEN_UP for choice in _choices(chunk))


def delivers(chunk: Mapping[str, Any]) -> bool:
    """Whether a chunk holds something of the answer; the first one often names a role and nothing else."""
    for choice in _choices(chunk):
        delta = choice.get("delta")
        parts = delta if isinstance(delta, dict) else {}
        if choice.get("finish_reason") or choice.get("text") or any(v for k, v in parts.items() if k != "role"):
            return True
    return not _choices(chunk)


class OpenChoices:
    """Which choices of a stream have begun and not finished. For one thread."""

    def __init__(self) -> None:
        self._finished: dict[object, bool] = {}

    def note(self, chunk: Mapping[str, Any]) -> None:
        """Take in a chunk."""
        for choice in _choices(chunk):
            index = choice.get("index", 0)
            self._finished[index] = self._finished.get(index, False) or _has_finished(choice)

    @property
    def fault(self) -> str | None:
        """What is missing if the stream ends now; None where it is whole."""
        return None if self._finished and all(self._finished.values()) else CUT_OFF


def _choices(chunk: Mapping[str, Any]) -> list[dict[str, Any]]:
    choices = chunk.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def _has_finished(choice: Mapping[str, Any]) -> bool:
    reason = choice.get("finish_reason")
    return reason is not None and reason not in _GIVEN_UP
