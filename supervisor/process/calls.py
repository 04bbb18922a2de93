"""Talking to a process: call, send_request, cast and cast_latest. Any thread."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from .clock import deadline_after
from .envelopes import Cast, Sample, SampleKey
from .errors import MailboxFull
from .ref import WorkerRef
from .reply import ReplyTo
from .shown import show


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


def send_request(ref: WorkerRef, message: object, when_answered: Callable[[ReplyTo], None]) -> ReplyTo:
    """Send a request and go on (OTP's ``gen_server:send_request/2``); never blocks.

    Args:
        ref: Whom to ask.
        message: What its ``handle_call`` gets.
        when_answered: Called once, on the thread that answers, with the request; its ``result()`` is then the
            answer. It must be quick and must not raise or call; it may send.

    Returns:
        The request. Who wants no answer any more fails it, and no other answer is taken; ``when_answered`` runs then
        too, on that thread.

    Raises:
        NoProc, WorkerDown, Overloaded, WouldDeadlock: As :func:`call`; ``when_answered`` is not called then.
    """
    if not callable(when_answered):
        raise TypeError(f"when_answered must be callable, not {show(when_answered)}")
    return ref.process.request(message, when_answered)


def cast(ref: WorkerRef, message: object) -> None:
    """Send a message that its ``handle_cast`` gets, without an answer; never blocks.

    To an ended process it is dropped, as in OTP.

    Raises:
        MailboxFull: There is no room, and nothing was sent.
    """
    if not ref.process.inbox.offer(Cast(message)):
        raise MailboxFull(f"the mailbox of {ref.name} is full")


def cast_latest(ref: WorkerRef, key: Hashable, message: object, *, wake: bool = True) -> None:
    """Cast a sample: it takes the place of one with the same key that still waits.

    There is room for one sample per key, for as many keys as the mailbox has room for
    messages, whatever else waits; so a slow reader costs the sender nothing.

    Args:
        ref: Whom to tell.
        key: Of which kind it is.
        message: What its ``handle_cast`` gets.
        wake: False leaves it in the mailbox until something else wakes the reader, which then
            gets it first where it came first: for what only matters together with that.

    Raises:
        MailboxFull: As many other keys wait already.
    """
    if not ref.process.inbox.offer(Sample(SampleKey(key), message), wake=wake):
        raise MailboxFull(f"the mailbox of {ref.name} holds too many kinds of samples")
