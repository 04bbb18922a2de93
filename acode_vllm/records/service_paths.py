"""Where the folders of services are: ``${XDG_STATE_HOME:-~/.local/state}/acode/vllm/PORT/``. A leaf."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def state_path(environ: Mapping[str, str]) -> str:
    """The user's folder for state, by the XDG rules: a relative ``XDG_STATE_HOME`` is ignored."""
    configured = environ.get("XDG_STATE_HOME", "")
    if configured.startswith("/"):
        return configured
    return f"{environ.get('HOME') or os.path.expanduser('~')}/.local/state"


def service_path(environ: Mapping[str, str], port: int) -> str:
    """The folder of this user's service on ``port``."""
    return f"{state_path(environ)}/acode/vllm/{port}"
