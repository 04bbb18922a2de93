"""The kinds of values that settings have: how each is read, written in the environment, and described.

`Kind.read` takes what a YAML file or a program gives and is strict: ``"8000"`` is no number and ``true`` is no ``1``.
`Kind.parse` takes text from the environment or a flag. Both run on any thread and touch nothing outside.
Imports only leaves.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from acode_vllm.vocabulary.model_id import ALLOWED as MODEL_ALLOWED
from acode_vllm.vocabulary.model_id import model_id_mistake, parse_model_id

Fault = tuple[str, str]
"""Where in a value (``""`` for the whole, ``".NAME"``, ``"[2]"``), and what is wrong there, to be read after "it"."""


class InvalidValueError(ValueError):
    """A value that is not of its kind; carries every fault in it."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(reason for _, reason in faults))
        self.faults = faults


@dataclass(frozen=True)
class Kind:
    """One kind of value.

    Attributes:
        allowed: What is allowed, as a noun phrase.
        read: From a YAML or Python value to its normal form; raises `InvalidValueError`.
        parse: From text to what ``read`` takes; raises `InvalidValueError`.
        schema: The same as JSON Schema.
    """

    allowed: str
    read: Callable[[object], object]
    parse: Callable[[str], object]
    schema: Mapping[str, object]


def _type_name(value: object) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", type(None): "empty"}
    if isinstance(value, (list, tuple)):
        return "a list"
    return "a mapping" if isinstance(value, Mapping) else names.get(type(value), f"a {type(value).__name__}")


def _wrong_type(value: object) -> InvalidValueError:
    return InvalidValueError(("", f"is {_type_name(value)}"))


_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,18}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")


def whole(minimum: int, maximum: int | None = None) -> Kind:
    """A whole number within bounds, both included."""
    allowed = f"a whole number, {minimum} or more" if maximum is None else f"a whole number from {minimum} to {maximum}"

    def read(value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong_type(value) if not isinstance(value, float) else InvalidValueError(("", "is not whole"))
        if value < minimum or (maximum is not None and value > maximum):
            raise InvalidValueError(("", "is out of range"))
        return int(value)

    def parse(text: str) -> object:
        if not _WHOLE.fullmatch(text.strip(" \t\r\n")):
            raise InvalidValueError(("", "is not a whole number" + _kubernetes_hint(text)))
        return int(text)

    bounds = {"minimum": minimum} if maximum is None else {"minimum": minimum, "maximum": maximum}
    return Kind(allowed, read, parse, {"type": "integer", **bounds})


def _kubernetes_hint(text: str) -> str:
    # A service named "vllm" makes Kubernetes set VLLM_PORT to an address in every pod beside it.
    is_address = text.startswith(("tcp://", "udp://"))
    return " but an address that Kubernetes sets; switch it off with enableServiceLinks: false" if is_address else ""


def number(*, minimum: float | None = None, above: float | None = None, maximum: float) -> Kind:
    """A finite number from ``minimum`` (or above ``above``) to ``maximum``."""
    lowest = f"from {minimum:g}" if minimum is not None else f"above {above:g}"
    allowed = f"a number {lowest} to {maximum:g}" if minimum is not None else f"a number {lowest}, up to {maximum:g}"

    def read(value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _wrong_type(value)
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidValueError(("", "is not a finite number"))
        too_low = value < minimum if minimum is not None else above is not None and value <= above
        if too_low or value > maximum:
            raise InvalidValueError(("", "is out of range"))
        return float(value)

    def parse(text: str) -> object:
        if not _NUMBER.fullmatch(text.strip(" \t\r\n")):
            raise InvalidValueError(("", "is not a number"))
        return float(text)

    low = {"minimum": minimum} if minimum is not None else {"exclusiveMinimum": above}
    return Kind(allowed, read, parse, {"type": "number", **low, "maximum": maximum})


_SWITCH_WORDS = {**dict.fromkeys(("true", "yes", "on", "1"), True), **dict.fromkeys(("false", "no", "off", "0"), False)}


def switch() -> Kind:
    """True or false."""

    def read(value: object) -> object:
        if not isinstance(value, bool):
            raise _wrong_type(value)
        return value

    def parse(text: str) -> object:
        word = text.strip().lower()
        if word not in _SWITCH_WORDS:
            raise InvalidValueError(("", "is neither true nor false"))
        return _SWITCH_WORDS[word]

    return Kind("true or false", read, parse, {"type": "boolean"})


def choice(members: type[Enum] | tuple[Enum, ...]) -> Kind:
    """One of an enumeration's values, read as the enumeration reads them (without regard to case)."""
    among = tuple(members)
    enumeration = type(among[0])
    words = [str(member.value) for member in among]

    def read(value: object) -> object:
        if not isinstance(value, str):
            raise _wrong_type(value)
        try:
            member = enumeration(value)
        except ValueError:
            raise InvalidValueError(("", "is not one of them")) from None
        if member not in among:
            raise InvalidValueError(("", "is not one of them"))
        return member

    # The words for an editor to offer, and the pattern for what is written otherwise.
    pattern = "|".join("".join(f"[{c.upper()}{c}]" if c.isalpha() else "[-_]?" for c in word) for word in words)
    schema = {"type": "string", "anyOf": [{"enum": words}, {"pattern": f"^({pattern})$"}]}
    return Kind(_one_of(words), read, _as_text, schema)


def word(among: tuple[str, ...]) -> Kind:
    """One of some words, exactly as they are written."""

    def read(value: object) -> object:
        if not isinstance(value, str):
            raise _wrong_type(value)
        if value not in among:
            raise InvalidValueError(("", "is not one of them"))
        return value

    return Kind(_one_of(list(among)), read, _as_text, {"type": "string", "enum": list(among)})


def text(allowed: str, mistake: Callable[[str], str | None]) -> Kind:
    """Text in which ``mistake`` finds nothing wrong."""

    def read(value: object) -> object:
        if not isinstance(value, str):
            raise _wrong_type(value)
        reason = mistake(value)
        if reason is not None:
            raise InvalidValueError(("", reason))
        return value

    return Kind(allowed, read, _as_text, {"type": "string", "minLength": 1})


def model() -> Kind:
    """A model ID or an absolute path (FR-026)."""

    def read(value: object) -> object:
        reason = model_id_mistake(value) if isinstance(value, str) else f"is {_type_name(value)}"
        if reason is not None:
            raise InvalidValueError(("", reason))
        return parse_model_id(value).text

    return Kind(MODEL_ALLOWED, read, _as_text, {"type": "string", "minLength": 1})


def words(allowed: str, faults: Callable[[tuple[str, ...]], tuple[Fault, ...]], *, minimum: int = 0) -> Kind:
    """A list of texts, or one text that is split as a shell does; ``faults`` says what is wrong with them."""

    def read(value: object) -> object:
        if isinstance(value, str):
            value = _split(value)
        if not isinstance(value, (list, tuple)):
            raise _wrong_type(value)
        wrong = tuple((f"[{i}]", why) for i, item in enumerate(value) if (why := _element_mistake(item)))
        if not wrong and len(value) < minimum:
            wrong = (("", "is empty"),)
        if not wrong:
            wrong = faults(tuple(value))
        if wrong:
            raise InvalidValueError(*wrong)
        return tuple(value)

    one_or_list = [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": minimum}]
    return Kind(allowed, read, _as_text, {"oneOf": one_or_list})


def _split(value: str) -> list[str]:
    import shlex

    try:
        return shlex.split(value)
    except ValueError as error:
        raise InvalidValueError(("", f"cannot be split into words ({str(error).lower().rstrip('.')})")) from None


def _element_mistake(item: object) -> str | None:
    if not isinstance(item, str):
        return f"is {_type_name(item)}; put it in quotes"
    return "holds a NUL character, which no argument can" if "\0" in item else None


def mapping(allowed: str, faults: Callable[[Mapping[str, str]], tuple[Fault, ...]]) -> Kind:
    """A mapping of texts to texts."""

    def read(value: object) -> object:
        if not isinstance(value, Mapping):
            raise _wrong_type(value)
        wrong = tuple(
            (f".{name}", f"is {_type_name(item)}; put it in quotes")
            for name, item in value.items()
            if not isinstance(item, str)
        )
        wrong += faults({str(name): item for name, item in value.items() if isinstance(item, str)})
        if wrong:
            raise InvalidValueError(*wrong)
        return dict(value)

    return Kind(allowed, read, _as_text, {"type": "object", "additionalProperties": {"type": "string"}})


_DEVICE = re.compile(r"[0-9]{1,4}|(?:GPU|MIG)-[0-9A-Za-z/-]{4,80}")


def devices() -> Kind:
    """A list of device indices and UUIDs; in text they are separated by commas."""

    def read(value: object) -> object:
        if not isinstance(value, (list, tuple)):
            raise _wrong_type(value)
        names = [str(item) if isinstance(item, (int, str)) and not isinstance(item, bool) else "" for item in value]
        wrong = tuple((f"[{i}]", "is no device") for i, name in enumerate(names) if not _DEVICE.fullmatch(name))
        if not names:
            wrong = (("", "is empty"),)
        if len(set(names)) < len(names):
            wrong += (("", "names a device twice"),)
        if wrong:
            raise InvalidValueError(*wrong)
        return tuple(names)

    item = {"oneOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": f"^(?:{_DEVICE.pattern})$"}]}
    return Kind(
        "a list of device indices or UUIDs, each once, like [0, 1]",
        read,
        lambda text: [part.strip() for part in text.split(",")],
        {"type": "array", "items": item, "minItems": 1, "uniqueItems": True},
    )


def _as_text(text: str) -> object:
    return text


def _one_of(words: list[str]) -> str:
    return ", ".join(words[:-1]) + " or " + words[-1]
