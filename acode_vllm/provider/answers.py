"""Answers of the OpenAI-compatible API: the server's JSON as it came, with names for what is mostly wanted. A leaf.

They are dicts, so nothing of an answer is lost, and what a newer server adds is there as well.
"""

from __future__ import annotations

from typing import Any


class Answer(dict[str, Any]):
    """A whole answer to a chat or a completion. The names look at the first choice."""

    @property
    def text(self) -> str:
        """The generated text; empty where there is none, as in a pure tool call."""
        choice = _first_choice(self)
        return str(choice.get("text") or _part(choice, "message").get("content") or "")

    @property
    def finish_reason(self) -> str | None:
        """Why it ended: ``stop``, ``length``, ``tool_calls`` and others."""
        return _first_choice(self).get("finish_reason")

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """The calls of tools that the model wants."""
        return list(_part(_first_choice(self), "message").get("tool_calls") or [])

    @property
    def usage(self) -> dict[str, Any]:
        """Tokens counted by the server."""
        return dict(self.get("usage") or {})


class Chunk(dict[str, Any]):
    """One event of a streamed answer."""

    @property
    def text(self) -> str:
        """What it adds to the text of the first choice; often empty."""
        choices: list[dict[str, Any]] = self.get("choices") or []
        choice = next((c for c in choices if c.get("index", 0) == 0), {})
        return str(choice.get("text") or _part(choice, "delta").get("content") or "")


class Embeddings(dict[str, Any]):
    """The answer to texts that were to be embedded."""

    @property
    def vectors(self) -> list[list[float]]:
        """One vector for each text, in their order."""
        return [entry["embedding"] for entry in sorted(self.get("data") or [], key=lambda e: int(e.get("index", 0)))]


def _first_choice(answer: dict[str, Any]) -> dict[str, Any]:
    choices = answer.get("choices")
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}


def _part(choice: dict[str, Any], name: str) -> dict[str, Any]:
    part = choice.get(name)
    return part if isinstance(part, dict) else {}
