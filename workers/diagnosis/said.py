"""What vLLM itself said at its end: an exception that no rule knows, its kind, and what that kind suggests. Pure."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

_EXCEPTION = re.compile(
    r"^(?:\w+\.)*(?P<kind>[A-Z]\w*(?:Error|Exception|Exit|Unsupported|NotFound|Failed|Refused|Invalid))"
    r"(?:: (?P<what>.*))?$"
)
_SEVERAL = re.compile(r"^(?P<kind>[\w.]+): (?P<parts>\((?:\"|').*\))$")
_NUMBER = re.compile(r"0x[0-9a-f]+|\d+")


@dataclass(frozen=True)
class Kind:
    """One kind of exception. It is this kind if its class is one of ``classes``, or if its text matches ``words``.

    Attributes:
        code: The error's code.
        remedy: What to do.
        classes: Names of exception classes, without their modules.
        words: What the line says instead.
        only: The classes that ``words`` may decide for; empty for all.
    """

    code: str
    remedy: str
    classes: frozenset[str] = frozenset()
    words: re.Pattern[str] | None = None
    only: frozenset[str] = frozenset()


def _any_of(*words: str) -> re.Pattern[str]:
    return re.compile("|".join(words), re.IGNORECASE)


_REFUSED = frozenset(
    {
        *("ValueError", "TypeError", "KeyError", "LookupError", "NotImplementedError", "ArgumentError", "Unsupported"),
        *("ValidationError", "VLLMValidationError", "ConfigurationError"),
    }
)
_PERHAPS_REFUSED = _REFUSED | {"RuntimeError", "AssertionError"}
_NO = r"not (?:yet |currently )?(?:been )?(?:support|implement)|unsupported|does ?n[o']t support|only (?:support|works)"
_NEEDS = r"requires?\b|required|at least|or (?:higher|newer|later)|too old|minimum"
_SAYS_WHAT = r"is not (?:available|enabled|allowed)|must be set|please (?:set|use|select)|select a different"
_DEVICE = (
    r"capabilit|\bsm_?\d|\bGPUs?\b|\bCUDA\b|\bROCm\b|\bHIP\b|\bdevices?\b|\bCPUs?\b|platform|Ampere|Hopper|Blackwell"
)

KINDS: tuple[Kind, ...] = (
    Kind(
        "ACODE-VLM-006",
        "Use a smaller or quantized model or a smaller max_model_len, or free memory (nvidia-smi and free -g show it).",
        frozenset({"MemoryError", "OutOfMemoryError", "OutOfMemory"}),
        _any_of("out of memory", "(?:not enough|insufficient|no available) memory", "allocate memory"),
    ),
    Kind(
        "ACODE-VLM-009",
        "Install what the line names into vLLM's environment.",
        frozenset({"ModuleNotFoundError", "PackageNotFoundError"}),
        _any_of(r"\binstall(?:ed|ation)?\b"),
    ),
    Kind(
        "ACODE-VLM-009",
        "A library in vLLM's environment has a version that does not fit this vLLM. Run pip check there to see which, "
        "or install a matching set: pip install --upgrade vllm.",
        frozenset({"AttributeError", "ImportError", "VersionConflict", "NameError"}),
        _any_of(r"unexpected keyword argument", r"required positional argument", r"[<>=]=\s*\d+\.\d", r"incompatible"),
    ),
    Kind(
        "ACODE-VLM-032",
        "Correct the path that the line names, or put the file there.",
        frozenset(
            {"FileNotFoundError", "NotADirectoryError", "IsADirectoryError", "FileExistsError", "TemplateNotFound"}
        ),
        _any_of(r"no such file", r"(?:file|folder|directory|path)\b.*(?:does not exist|not found)"),
    ),
    Kind(
        "ACODE-VLM-010",
        "This device cannot do what the line says. Choose another dtype, quantization or attention backend "
        "(--attention-backend in providers.vllm.extra_args), or another device.",
        words=re.compile(rf"(?=.*(?:{_DEVICE}))(?=.*(?:{_NO}|{_NEEDS}))", re.IGNORECASE),
        only=_PERHAPS_REFUSED,
    ),
    Kind(
        "ACODE-VLM-010",
        "Correct or remove the setting that the line names (providers.vllm, extra_args or env). If it comes from the "
        "model itself, use another model or a newer vLLM.",
        _REFUSED,
        _any_of(_NO, r"\binvalid\b", r"\bunknown\b", _NEEDS, "unrecognized", _SAYS_WHAT),
        _PERHAPS_REFUSED,
    ),
)
"""The kinds that no other start changes. The first that fits counts."""

CHANCE = Kind(
    "ACODE-VLM-015",
    "See the evidence and the whole log. A newer vLLM, driver or library may help.",
)
"""Any other exception: it may depend on chance."""


def exception_in(body: str) -> str:
    """The line, where it is the last of a traceback: an exception with its text; else empty."""
    return body if _EXCEPTION.match(body) else ""


def one_text(body: str) -> str:
    """The line with an exception's several arguments joined: Python prints them as a tuple."""
    found = _SEVERAL.match(body)
    if found is None:
        return body
    try:
        parts = ast.literal_eval(found["parts"])
    except (SyntaxError, ValueError):
        return body
    if not all(isinstance(part, str) for part in parts):
        return body
    return f"{found['kind']}: {''.join(parts)}"


def kind_of(line: str) -> Kind:
    """The kind of an exception's line."""
    found = _EXCEPTION.match(line)
    name, text = (found["kind"], found["what"] or "") if found else ("", line)
    for kind in KINDS:
        decides = kind.words is not None and (not kind.only or name in kind.only)
        if name in kind.classes or (decides and kind.words is not None and kind.words.search(text)):
            return kind
    return CHANCE


def fingerprint(line: str) -> str:
    """The line without what differs between two reports of one cause: PIDs, addresses, amounts."""
    return _NUMBER.sub("#", line)
