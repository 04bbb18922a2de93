"""What the stand-in does differently from a healthy vLLM: a JSON object, or a list with one object per start."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any


@dataclass(frozen=True)
class Faults:
    """What a stand-in server does differently from a healthy vLLM. The default loads at once and serves well.

    Times are in seconds.

    Attributes:
        first_sign_seconds: From the start to the first log line.
        load_seconds: From there to listening.
        log_lines: Further lines, written before the load ends.
        fail_lines: Lines that are written before the exit with ``fail_code``.
        fail_code: Exit with this code (negative: by this signal) instead of serving.
        swallow_sigterm: A first SIGTERM during the start has no effect, as with vLLM; the next one ends it.
        ignore_sigterm: SIGTERM never has any effect, on any process of the tree.
        stop_seconds: How long a graceful end takes.
        exit_delay: From an engine's death to the exit of the API server, with code 0.
        workers: Worker processes below the engine.
        strays: Further children in sessions of their own, as data-parallel engines are.
        shm: Whether a ``/dev/shm/psm_standin_…`` is created and mapped; a graceful end removes it.
        crash_after: The engine dies by SIGKILL this long after the server began to listen.
        crash_at_request: The engine dies by SIGKILL at this request for text (1: the first).
        crash_after_tokens: The engine dies by SIGKILL after this many tokens.
        crash_lines: Lines that are written before the crash of ``crash_at_request``.
        token_seconds: Time for one token of every running request.
        delays: Path of the URL → time before the answer begins.
        drips: Path → time between two bytes of the answer.
        statuses: Path → status to answer with instead.
        closes: Paths whose connection is closed without an answer.
        serve_name: The model that is listed and served instead of the one in the options.
        completions: False: the model makes embeddings instead of text.
        chat_template: False: a base model; chat is refused with 400.
        metrics: False: there is no ``/metrics``.
        noise: Lines of harmless noise at the end of the log.
    """

    first_sign_seconds: float = 0.0
    load_seconds: float = 0.0
    log_lines: Sequence[str] = ()
    fail_lines: Sequence[str] = ()
    fail_code: int | None = None
    swallow_sigterm: bool = True
    ignore_sigterm: bool = False
    stop_seconds: float = 0.0
    exit_delay: float = 1.0
    workers: int = 1
    strays: int = 0
    shm: bool = False
    crash_after: float | None = None
    crash_at_request: int | None = None
    crash_after_tokens: int | None = None
    crash_lines: Sequence[str] = ()
    token_seconds: float = 0.001
    delays: Mapping[str, float] = field(default_factory=dict)
    drips: Mapping[str, float] = field(default_factory=dict)
    statuses: Mapping[str, int] = field(default_factory=dict)
    closes: Sequence[str] = ()
    serve_name: str | None = None
    completions: bool = True
    chat_template: bool = True
    metrics: bool = True
    noise: int = 0

    def changed(self, changes: Mapping[str, Any]) -> Faults:
        """Return a copy with some of them changed.

        Raises:
            ValueError: There is no such fault.
        """
        unknown = set(changes) - {f.name for f in fields(self)}
        if unknown:
            raise ValueError(f"no such fault: {', '.join(sorted(unknown))}")
        return replace(self, **changes)


def faults_of_this_start(path: str | None, text: str | None) -> Faults:
    """Read the faults from the file ``path``, or else from the JSON ``text``.

    A file may hold a list: each start takes the next entry, and the last one stays. ``PATH.starts`` counts them.
    """
    if path is None:
        return Faults().changed(json.loads(text)) if text else Faults()
    with open(path, encoding="utf-8") as file:
        content = json.load(file)
    with open(f"{path}.starts", "ab+") as count:
        fcntl.lockf(count, fcntl.LOCK_EX)
        start = count.seek(0, os.SEEK_END)
        count.write(b".")
    if isinstance(content, list):
        content = content[min(start, len(content) - 1)]
    return Faults().changed(content)
