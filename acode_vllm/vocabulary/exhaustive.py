"""The end of a match over a closed union. Python has `typing.assert_never` from 3.11 on; this is it for 3.10."""

from __future__ import annotations

from typing import NoReturn


def assert_never(value: NoReturn) -> NoReturn:
    """Have the type checker prove that no member of a union is left over.

    Raises:
        AssertionError: One is, all the same: a value of a wrong type has come in.
    """
    raise AssertionError(f"not a member of the union: {value!r}")
