"""The default listener: events as log records of the logger ``acode_vllm.service``.

Each event is one record with the words, the level and the fields of `acode_vllm.vocabulary.event_entry`; the fields are
``extra``, so that a JSON formatter finds them (NFR-013, NFR-014).
"""

from __future__ import annotations

import logging

from acode_vllm.vocabulary.event_entry import event_entry, is_routine
from acode_vllm.vocabulary.events import Event, ProblemRaised

LOGGER = logging.getLogger("acode_vllm.service")


def log_service_event(event: Event) -> None:
    """Write one event to the log."""
    if is_routine(event) and not LOGGER.isEnabledFor(logging.DEBUG):
        return  # most events by far, and the caller of a check waits for this too
    entry = event_entry(event)
    level = getattr(logging, entry.level)
    if LOGGER.isEnabledFor(level):
        text = str(event.problem) if isinstance(event, ProblemRaised) else entry.text  # with remedy and evidence
        LOGGER.log(level, "%s", text, extra={"event": type(event).__name__, "fields": entry.fields})
