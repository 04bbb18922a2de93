"""Text for values that others made: it never raises and is never long."""

from __future__ import annotations

from typing import Final, NoReturn

LIMIT: Final = 1000
"""How many characters of a value to show."""


def show(value: object) -> str:
    """Return ``repr(value)``, shortened; the default ``repr`` if the value's own one raises.

    An exception whose ``__init__`` did not run to the end may have nothing for its ``__repr__`` to read.
    """
    try:
        text = str.__str__(repr(value))
    except BaseException:  # noqa: BLE001 - a message about a broken value must not break its reader
        text = object.__repr__(value)
    return text if len(text) <= LIMIT else f"{text[:LIMIT]}…"


def plain(value: object) -> str | None:
    """Return a string as a plain ``str``, without a subclass's hash and ``==``; None if it is no string."""
    return str.__str__(value) if issubclass(type(value), str) else None  # not by its word alone


def assert_never(value: NoReturn) -> NoReturn:
    """Mark the end of a ``match`` over a closed union; ``typing.assert_never`` came with Python 3.11."""
    raise AssertionError(f"unexpected: {show(value)}")
