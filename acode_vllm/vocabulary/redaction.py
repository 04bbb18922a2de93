"""Takes secrets out of text before anybody sees it: logs, errors, what is relayed of vLLM's own output.

Two nets: the values that are known to be secret, and whatever has the shape of a secret. A leaf: it imports nothing
of ours. Cheap enough to be called for every line; applying it twice changes nothing more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache

MARK = "***"
"""What stands in the place of a secret."""

HF_TOKEN_NAMES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""Environment variables of the hub's token, in the order in which the hub's own client reads them."""
API_KEY_NAME = "VLLM_API_KEY"
"""Environment variable of the server's bearer key."""

_SHORTEST = 4
"""A known value that is shorter is left alone: taking every "1" out of a text helps nobody."""

_SECRET_WORDS = frozenset({"SECRET", "PASSWORD", "PASSWD", "APIKEY"})
_SECRET_LAST_WORDS = frozenset({"TOKEN", "KEY", "PAT"})
_HARMLESS = frozenset({"", "0", "1", "true", "false", "yes", "no", "on", "off"})

_TRIGGERS = (
    *("hf_", "sk-", "api_org_", "bearer", "basic", "@", "secret", "passw"),
    *("api_key", "api-key", "apikey", "access", "-token", "_token", "token=", "key=", "signature="),
)
"""Lower-case texts of which every shape below contains one; without any the regular expression is not run."""

_SHAPES = r"""
    \b(?:hf_(?:oauth_|jwt_)?|api_org_)[A-Za-z0-9][A-Za-z0-9.-]{15,}[A-Za-z0-9_.-]*   # tokens of the hub
    | \bsk-[A-Za-z0-9_-]{12,}                                                        # API keys
    | (?P<scheme>\b(?:bearer|basic)\s+) [A-Za-z0-9._~+/=-]{6,}                       # Authorization headers
    | (?P<url>://) [^\s/@'"]+ (?=@)                                                  # https://user:password@host
    | (?P<query>[?&][\w.-]*(?:token|key|signature|secret)=) [^\s&'"]+                # signed addresses
    | (?P<name>
        --(?: (?:api|access|secret)[-_]?key | (?:hf|auth|access|api)[-_]token | password )
            (?: \s*=\s* | ["']?,?\s+ ) ["']?
        | (?: api[-_]?key | (?:hf|hub|auth|access|api|refresh)[-_]token | secret(?:[-_](?:access[-_])?key)?
            | passw(?:or)?d ) ["']? \s*[=:]\s* \[? ["']?
      )
      (?! None | null | true | false | not[ ]set | \.\. | hf_\. | … | \* | [<$] ) [^\s"',;&\[\]{}()]+
    """


def names_secret(name: str) -> bool:
    """Whether an environment variable of this name usually holds a secret (``HF_TOKEN``, not ``TOKENIZERS_…``)."""
    words = re.split(r"[^A-Z0-9]+", name.upper())
    return words[-1] in _SECRET_LAST_WORDS or not _SECRET_WORDS.isdisjoint(words)


def secret_values(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The values in ``environ`` that its names give away as secrets; switches and empty values are none."""
    return tuple(
        value.strip()
        for name, value in environ.items()
        if names_secret(name) and value.strip().lower() not in _HARMLESS
    )


def holds_secret(name: str, value: str) -> bool:
    """Whether the variable ``name`` with this value is a secret, by its name or by the value's shape."""
    if names_secret(name) and value.strip().lower() not in _HARMLESS:
        return True
    return redact(value) != value


class Redactor:
    """Redacts known values and everything that has the shape of a secret. Immutable; any thread may use it."""

    def __init__(self, secrets: Iterable[str | None] = ()) -> None:
        """Remembers ``secrets``; None, and values too short to be told from ordinary text, are passed over."""
        known = {form for secret in secrets if secret for form in _forms(secret.strip())}
        # Longest first: a secret that begins like another one must not leave its tail behind.
        ordered = sorted(known, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __repr__(self) -> str:
        return "Redactor()"

    def redact(self, text: str) -> str:
        """``text`` without its secrets."""
        if self._known is not None:
            text = self._known.sub(MARK, text)
        return redact(text)


def redact(text: str) -> str:
    """``text`` without what has the shape of a secret."""
    lowered = text.lower()
    if not any(trigger in lowered for trigger in _TRIGGERS):
        return text
    return _shapes().sub(_replacement, text)


@cache
def _shapes() -> re.Pattern[str]:
    # Compiled at the first use: it costs more than all the rest of a light command's imports of ours.
    return re.compile(_SHAPES, re.VERBOSE | re.IGNORECASE)


def _replacement(match: re.Match[str]) -> str:
    prefix = match["scheme"] or match["url"] or match["query"] or match["name"] or ""
    return prefix + MARK


def _forms(secret: str) -> Iterable[str]:
    """The secret, and how it looks in an address and in a quoted text."""
    if len(secret) < _SHORTEST or not secret.strip("*"):
        return
    yield secret
    if not secret.isalnum():
        from urllib.parse import quote

        yield quote(secret, safe="")
        yield repr(secret)[1:-1]
