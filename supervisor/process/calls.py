"""Messages to a process: call, send_request, cast and cast_latest. Any thread."""

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
        ref: The process.
        message: What its ``handle_call`` gets.
        timeout: Seconds to wait, on the tree's clock; None: for ever.

    Returns:
        What ``handle_call`` returned, or what was given to ``ReplyTo.reply``.

    Raises:
        CallTimeout: No reply in time. The request may still be carried out.
        NoProc: The process had ended before, or this is a forked process.
        WorkerDown: The process ended, or is ending, without a reply.
        Overloaded: Its mailbox is full.
        WouldDeadlock: The process is the caller itself, or a supervisor that waits for the
            caller.
        Exception: What was given to ``ReplyTo.fail``.
    """
    process = ref.process
    deadline = deadline_after(process.clock, timeout)
    return process.request(message).wait(deadline, process.name)


def send_request(ref: WorkerRef, message: object, when_answered: Callable[[ReplyTo], None]) -> ReplyTo:
    """Send a request and go on (OTP's ``gen_server:send_request/2``); never blocks.

    Args:
        ref: The process.
        message: What its ``handle_call`` gets.
        when_answered: Called once, on the thread that answers, with the request; its ``result()`` is then the
            answer. It must be quick and must not raise or call; it may send.

    Returns:
        The request. To give up on the answer, fail it: no other answer is taken, and ``when_answered`` runs on your
        thread.

    Raises:
        NoProc, WorkerDown, Overloaded, WouldDeadlock: See :func:`call`; ``when_answered`` is not called.
    """
    if not callable(when_answered):
        raise TypeError(f"when_answered must be callable, not {show(when_answered)}")
    return ref.process.request(message, when_answered)


def cast(ref: WorkerRef, message: object) -> None:
    """Send a message to its ``handle_cast``, without an answer; never blocks.

    A message to an ended process is dropped, as in OTP.

    Raises:
        MailboxFull: There is no room, and nothing was sent.
    """
    if not ref.process.inbox.offer(Cast(message)):
        raise MailboxFull(f"the mailbox of {ref.name} is full")


def cast_latest(ref: WorkerRef, key: Hashable, message: object, *, wake: bool = True) -> None:
    """Cast a sample: it replaces a waiting one with the same key.

    There is room for one sample per key, for as many keys as the mailbox has room for
    messages, whatever else waits. So a slow reader costs the sender nothing.

    Args:
        ref: The process.
        key: What kind of sample it is.
        message: What its ``handle_cast`` gets.
        wake: False leaves it in the mailbox until something else wakes the reader, which reads
            both in the order in which they came.

    Raises:
        MailboxFull: Too many other keys wait already.
    """
    if not ref.process.inbox.offer(Sample(SampleKey(key), message), wake=wake):
        raise MailboxFull(f"the mailbox of {ref.name} holds too many kinds of samples")
