"""Is the port held by a vLLM of this very user that nobody here started, and that serves the wanted model?"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from contextlib import closing
from urllib.parse import urlsplit

from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.workers.health.health_check import judge_health, judge_models, served_models
from acode_vllm.workers.health.probe import Probe, ProbeError
from acode_vllm.workers.machine.listening import listening_inodes
from acode_vllm.workers.machine.sockets import holders_of
from acode_vllm.workers.machine.waits import Interrupt
from acode_vllm.workers.messages.model_messages import ServerFound

LOOK_SECONDS = 2.0
"""For each of the three questions that are asked; a well vLLM answers in milliseconds."""


def find_server(
    options: VllmLifecycleOptions, served_name: str, api_key: str | None, own_pids: Callable[[], Collection[int]]
) -> ServerFound | None:
    """The server, where there is one; microseconds where nobody listens. Any thread; blocks for some seconds at most.

    Args:
        options: The settings, for port and address.
        served_name: The name that it must list.
        api_key: Bearer key of the API.
        own_pids: Finds what is ended before a start anyway, and is therefore no find.
    """
    inodes = listening_inodes(options.port, None)
    if not inodes:
        return None
    # Sockets of other users have no holders that we may see: then it is not this user's alone.
    holders = holders_of(inodes)
    pids = frozenset[int]().union(*holders.values())
    if len(holders) < len(inodes) or not pids or pids & set(own_pids()) or not all(map(_is_mine, pids)):
        return None
    return ServerFound(min(pids)) if _serves(options.url, served_name, api_key) else None


def _is_mine(pid: int) -> bool:
    try:
        return os.stat(f"/proc/{pid}").st_uid == os.geteuid()
    except OSError:
        return False


def _serves(url: str, served_name: str, api_key: str | None) -> bool:
    if urlsplit(url).hostname is None:
        return False
    with closing(Interrupt()) as interrupt, closing(Probe(url, api_key=api_key, interrupt=interrupt)) as probe:
        try:
            version = probe.get("/version", LOOK_SECONDS)
            content = version.json() if version.status == 200 else None
            if not (isinstance(content, dict) and "version" in content):
                return False  # others answer /v1/models as well; this one is no vLLM
            if judge_health(probe.get("/health", LOOK_SECONDS))[1]:
                return False
            models = probe.get("/v1/models", LOOK_SECONDS)
            return not judge_models(models, served_models(models), served_name)[1]
        except ProbeError:
            return False
