"""Frozen values to JSON and back, by their type hints.

The service record is read by the status command, where the import of a serialisation library alone would cost more
than the whole rest of the command; what is needed here is one screen of code. Values outside of the hints are
refused rather than guessed at: a record may be damaged or foreign.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

if typing.TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")


class JsonValue:
    """A value that programs may write down and exchange: `dataclasses_json` for programs, loaded when it is used.

    `encode` and `decode` are for our own records and sockets, where its import would cost more than the whole command.
    """

    def to_dict(self, encode_json: bool = True) -> dict[str, Any]:
        """The value as what JSON can hold."""
        from dataclasses_json import DataClassJsonMixin

        return DataClassJsonMixin.to_dict(typing.cast(DataClassJsonMixin, self), encode_json)

    def to_json(self) -> str:
        """The value as JSON text."""
        from dataclasses_json import DataClassJsonMixin

        return DataClassJsonMixin.to_json(typing.cast(DataClassJsonMixin, self))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, infer_missing: bool = True) -> Self:
        """The value of what `to_dict` made. Unknown keys, of a newer version say, are passed over.

        Raises:
            ValueError: A value does not fit.
        """
        from dataclasses_json import DataClassJsonMixin

        made: Self
        try:
            made = DataClassJsonMixin.from_dict.__func__(cls, data, infer_missing=infer_missing)  # type: ignore[attr-defined]
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"no {cls.__name__}: {error}") from error
        return made

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The value of what `to_json` wrote; raises as `from_dict`."""
        import json

        return cls.from_dict(json.loads(text))


def encode(value: Any) -> Any:
    """``value`` as JSON data: dataclasses become objects, tuples become lists, enums their values."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"cannot be written as JSON: {type(value).__name__}")


def decode(kind: type[T], data: Any) -> T:
    """A value of ``kind`` from JSON data. Keys that ``kind`` does not know are passed over.

    Raises:
        ValueError: The data does not fit.
    """
    return typing.cast(T, _decode(kind, data, kind.__name__))


@cache
def _hints_of(kind: type) -> dict[str, Any]:
    # Evaluating them takes longer than everything else here, and an owner's clients decode a status at each change.
    return typing.get_type_hints(kind)


def _decode(hint: Any, data: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return _decode_optional(hint, data, where)
    if origin is tuple:
        if not isinstance(data, list):
            raise ValueError(f"{where}: a list was expected")
        item = typing.get_args(hint)[0]
        return tuple(_decode(item, entry, f"{where}[{i}]") for i, entry in enumerate(data))
    if origin is Mapping:
        if not isinstance(data, dict):
            raise ValueError(f"{where}: an object was expected")
        kind = typing.get_args(hint)[1]
        return {key: _decode(kind, value, f"{where}.{key}") for key, value in data.items()}
    if isinstance(hint, type) and is_dataclass(hint):
        if not isinstance(data, dict):
            raise ValueError(f"{where}: an object was expected")
        hints = _hints_of(hint)
        known = {
            f.name: _decode(hints[f.name], data[f.name], f"{where}.{f.name}") for f in fields(hint) if f.name in data
        }
        try:
            return hint(**known)
        except TypeError as error:
            raise ValueError(f"{where}: {error}") from error
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(data)
    if hint is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if isinstance(data, hint) and not (isinstance(data, bool) and hint is not bool):
        return data
    raise ValueError(f"{where}: {hint.__name__} was expected, not {type(data).__name__}")


def _decode_optional(hint: Any, data: Any, where: str) -> Any:
    options = [option for option in typing.get_args(hint) if option is not types.NoneType]
    if data is None:
        if len(options) < len(typing.get_args(hint)):
            return None
        raise ValueError(f"{where}: a value is missing")
    return _decode(options[0], data, where)
