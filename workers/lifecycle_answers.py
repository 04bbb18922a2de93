"""Giving the answers that the lifecycle has decided upon to those who wait for them."""

from __future__ import annotations

from collections.abc import Sequence

from acode_vllm.errors import error_for
from acode_vllm.supervisor import ReplyTo
from acode_vllm.workers.lifecycle_messages import Answer, Refuse


def give(answers: Sequence[Answer | Refuse]) -> None:
    """Answer each caller, by a value or by the error of a problem."""
    for answer in answers:
        assert isinstance(answer.to, ReplyTo)
        if isinstance(answer, Answer):
            answer.to.reply(answer.value)
        else:
            answer.to.fail(error_for(answer.problem))
