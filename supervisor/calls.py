"""Talking to a process: call, cast and cast_latest. Any thread."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from .clock import deadline_after
from .envelopes import Cast
from .errors import MailboxFull
from .ref import WorkerRef


def call(ref: WorkerRef, message: object, timeout: float | None = 5.0) -> Any:
    """Send a request and wait for its reply (OTP's ``gen_server:call/3``).

    Args:
        ref: Whom to ask.
        message: What its ``handle_call`` gets.
        timeout: Seconds to wait, on the tree's clock; None: without end.

    Returns:
        What ``handle_call`` returned, or what was given to ``ReplyTo.reply``.

    Raises:
        CallTimeout: No reply within the time. The request may still be carried out.
        NoProc: It had ended before, or this is a forked process.
        WorkerDown: It ended, or is ending, without a reply.
        Overloaded: Its mailbox is full.
        WouldDeadlock: It is the caller itself, or a supervisor that waits for the caller.
        Exception: What was given to ``ReplyTo.fail``.
    """
    process = ref.process
    deadline = deadline_after(process.clock, timeout)
    return process.request(message).wait(deadline, process.name)


def cast(ref: WorkerRef, message: object) -> None:
    """Send a message that its ``handle_cast`` gets, without an answer; never blocks.

    To an ended process it is dropped, as in OTP.

    Raises:
        MailboxFull: There is no room, and nothing was sent.
    """
    envelope = Cast(message)
    if not ref.process.inbox.offer(lambda mailbox: mailbox.put(envelope)):
        raise MailboxFull(f"the mailbox of {ref.name} is full")


def cast_latest(ref: WorkerRef, key: Hashable, message: object) -> None:
    """Cast a sample: it takes the place of one with the same key that still waits.

    There is room for one sample per key, for as many keys as the mailbox has room for
    messages, whatever else waits; so a slow reader costs the sender nothing.

    Raises:
        MailboxFull: As many other keys wait already.
    """
    if not ref.process.inbox.offer(lambda mailbox: mailbox.put_latest(key, message)):
        raise MailboxFull(f"the mailbox of {ref.name} holds too many kinds of samples")
