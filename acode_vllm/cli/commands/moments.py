"""Moments as people write them ("10m" ago, 14:30, a date) and as vLLM stamps its log."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from acode_vllm.vocabulary.errors import Problem, error_for
from acode_vllm.vocabulary.safe_text import printable


def moment_given(text: str | None) -> datetime | None:
    """The moment that ``--since`` names; None without it.

    Raises:
        ConfigurationError: ACODE-VLM-010: it names none.
    """
    if text is None:
        return None
    try:
        return read_moment(text, datetime.now())
    except (ValueError, OverflowError) as error:
        message = f"--since {printable(text)} is not a point in time."
        raise error_for(Problem("ACODE-VLM-010", message, f"Write it like one of: {ALLOWED}.")) from error


ALLOWED = "90s, 10m, 2h, 1d, 14:30 or 2026-11-24T14:30"
_AGO = re.compile(r"(\d{1,6})\s*([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_STAMP = re.compile(r"(?:^|\s)[A-Z]+ (\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)")


def read_moment(text: str, now: datetime) -> datetime:
    """The moment that a person means: a time ago, a time of today, or a date with or without a time.

    Raises:
        ValueError: It is none of them.
    """
    text = text.strip()
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    if re.fullmatch(r"\d{1,2}:\d\d(?::\d\d)?", text):
        text = f"{now:%Y-%m-%d}T{text:0>{5 if text.count(':') == 1 else 8}}"
    moment = datetime.fromisoformat(text)
    return moment.astimezone().replace(tzinfo=None) if moment.tzinfo else moment


def moment_of(line: str, now: datetime) -> datetime | None:
    """The time a line is stamped with; None without one. vLLM writes no year: the last one that fits is meant."""
    found = _STAMP.search(line)
    if found is None:
        return None
    month, day, hour, minute, second = (int(part) for part in found.groups())
    for year in (now.year, now.year - 1):
        try:
            moment = datetime(year, month, day, hour, minute, second)
        except ValueError:
            continue
        if moment <= now + timedelta(days=1):
            return moment
    return None
