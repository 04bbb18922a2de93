"""Logging of the command. Only here is logging configured: elsewhere that is up to the host program."""

from __future__ import annotations

import json
import logging
from typing import TextIO

_TEXT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        from acode_vllm.vocabulary.redaction import redact

        data: dict[str, object] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if (event := getattr(record, "event", None)) is not None:
            data["event"] = event
            data |= {key: value for key, value in getattr(record, "fields", {}).items() if key not in data}
        if record.exc_info:
            data["exception"] = redact(self.formatException(record.exc_info))
        return redact(json.dumps(data, default=str))


class _RedactingFilter(logging.Filter):
    """Removes secrets from every record before it is formatted (NFR: no credential in any log)."""

    def filter(self, record: logging.LogRecord) -> bool:
        from acode_vllm.vocabulary.redaction import redact

        record.msg, record.args = redact(record.getMessage()), ()
        return True


def set_up_logging(
    stream: TextIO, *, verbose: bool, log_format: str, plain: bool = False, always: bool = False
) -> None:
    """Send the package's log to ``stream``, if it is asked for.

    Args:
        stream: Where it goes.
        verbose: Log everything.
        log_format: ``text`` or ``json``; ``json`` asks for a log.
        plain: No colors.
        always: Log even if not asked to: for a program that prints nothing else.
    """
    logger = logging.getLogger("acode_vllm")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.propagate = False
    if not verbose and not always and log_format == "text":
        logger.addHandler(logging.NullHandler())
        return
    handler = logging.StreamHandler(stream)
    handler.addFilter(_RedactingFilter())
    handler.setFormatter(_formatter(stream, log_format, plain=plain))
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)


def _formatter(stream: TextIO, log_format: str, *, plain: bool) -> logging.Formatter:
    if log_format == "json":
        return JsonFormatter()
    if stream.isatty() and not plain:
        import colorlog

        return colorlog.ColoredFormatter("%(log_color)s" + _TEXT + "%(reset)s")
    return logging.Formatter(_TEXT)
