"""What is wrong with a text that a setting must not hold: names, addresses. A leaf."""

from __future__ import annotations

import re


def name_mistake(value: str) -> str | None:
    """Why a text is not a name; None where it is."""
    if not value or len(value) > 256:
        return "is empty" if not value else "is too long"
    if value.startswith("-") or value != value.strip() or not value.isprintable():
        return "begins with '-', or holds spaces at an end or control characters"
    return None


def quantization_mistake(value: str) -> str | None:
    """Why a text is not the name of a quantization; None where it is."""
    return None if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", value) else "is no name of a quantization"


_HOST_NAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)


def host_mistake(value: str) -> str | None:
    """Why a text is not an address or a host name; None where it is."""
    if _HOST_NAME.fullmatch(value) and not re.fullmatch(r"[0-9.]+", value):
        return None
    from ipaddress import ip_address

    try:
        ip_address(value)
    except ValueError:
        return "is neither an address nor a host name"
    return None


def url_mistake(value: str) -> str | None:
    """Why a text is not the address of a server; None where it is."""
    from urllib.parse import urlsplit

    if not value.isprintable() or " " in value:
        return "holds spaces or control characters"
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "is no valid address"
    if parts.scheme not in ("http", "https") or not host or port == 0:
        return "is no valid http or https address"
    if "@" in parts.netloc:
        return "holds a user or password; set VLLM_API_KEY in the environment"
    if parts.query or parts.fragment or "?" in value or "#" in value:
        return "holds a query or a fragment"
    return host_mistake(host)
