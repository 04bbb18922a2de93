"""A failed request in words: what the server said, or why it said nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence

from acode_vllm.vocabulary.errors import Problem, RequestError, StreamInterruptedError

LONGEST_QUOTE = 2000
"""Characters of a server's error that are passed on."""


def server_message(body: bytes) -> str:
    """The message of an error answer, in any of the shapes that vLLM's versions and proxies before it use."""
    text = body.decode("utf-8", "replace").strip()
    try:
        content = json.loads(text)
    except ValueError:
        return text[:LONGEST_QUOTE] or "no explanation"
    for name in ("error", "detail", "message"):
        found = content.get(name) if isinstance(content, dict) else None
        if isinstance(found, dict):
            found = found.get("message")
        if isinstance(found, str) and found:
            return found[:LONGEST_QUOTE]
    return text[:LONGEST_QUOTE] or "no explanation"


def refused(status: int, message: str) -> RequestError:
    """The server refused the request; sending it again would change nothing."""
    remedies = {
        401: "Set VLLM_API_KEY to the key that the server was started with.",
        403: "Set VLLM_API_KEY to the key that the server was started with.",
        404: "Ask for a model that the server lists: acode providers status vllm.",
    }
    remedy = remedies.get(status, "Correct the request; it was not sent again.")
    return RequestError(Problem("ACODE-VLM-019", f"The server answered {status}: {message}", remedy), status)


def not_understood(message: str) -> RequestError:
    """The server answered with something that is no answer to the request; it would do so again."""
    remedy = "See what listens at the address (base_url, port): a proxy before vLLM, or another program."
    return RequestError(Problem("ACODE-VLM-019", message, remedy), 200)


def busy(message: str, seconds: float) -> RequestError:
    """The server had no room for the request as long as it could wait."""
    return RequestError(
        Problem(
            "ACODE-VLM-019",
            f"The server answered 429 for {seconds:.0f} s: {message}",
            "Send fewer requests at once, or give this one more time (timeout).",
        ),
        429,
    )


def given_up(reasons: Sequence[str], status: int | None, *, external: bool) -> RequestError:
    """The server failed the request as often as it may."""
    if external:
        message = f"The request failed: {reasons[-1]}"
        remedy = "In external mode nothing is started or restarted: see to the server, or use lifecycle mode managed."
        return RequestError(Problem("ACODE-VLM-019", message, remedy), status)
    message = (
        f"The request failed {len(reasons)} times, with a health check before each try; the last time: {reasons[-1]}"
    )
    remedy = "See vLLM's log and: acode providers history vllm."
    return RequestError(Problem("ACODE-VLM-019", message, remedy, numbered(reasons)), status)


def out_of_time(reasons: Sequence[str], seconds: float) -> RequestError:
    """The request's own time passed."""
    message = f"The request was not answered within its {seconds:g} s: {reasons[-1]}"
    remedy = "Give it more time (timeout), or ask for less: max_tokens."
    return RequestError(Problem("ACODE-VLM-019", message, remedy, numbered(reasons)), None)


def too_slow(reasons: Sequence[str]) -> RequestError:
    """The server is well, and silent all the same: it would have to do the same work again."""
    message = f"The request was given up: {reasons[-1]}, from a server that was then found healthy."
    remedy = "Give it more time (timeout), or ask for less; how busy it is shows: acode providers status vllm."
    return RequestError(Problem("ACODE-VLM-019", message, remedy, numbered(reasons)), None)


def interrupted(reason: str, partial_text: str) -> StreamInterruptedError:
    """An answer broke off after it had begun to be delivered."""
    message = f"The answer broke off after {len(partial_text)} characters: {reason}"
    return StreamInterruptedError(Problem("ACODE-VLM-020", message), partial_text)


def numbered(reasons: Sequence[str]) -> tuple[str, ...]:
    """Why each try failed, as evidence."""
    return tuple(f"try {number}: {reason}" for number, reason in enumerate(reasons, 1))


def is_missing_chat_template(error: RequestError) -> bool:
    """Whether a chat was refused because the model has no chat template: a base model, which makes completions only."""
    return error.status == 400 and "chat template" in error.problem.message.lower()
