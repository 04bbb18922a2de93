"""Does another vLLM of this user, which acode did not start, hold the port and serve the wanted model?"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from contextlib import closing
from urllib.parse import urlsplit

from acode_vllm.io.waits import Interrupt
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.workers.health.health_check import judge_health, judge_models, served_models
from acode_vllm.workers.health.probe import Probe, ProbeError
from acode_vllm.workers.machine.listening import listening_inodes
from acode_vllm.workers.machine.sockets import holders_of
from acode_vllm.workers.messages.model_messages import ServerFound

LOOK_SECONDS = 2.0
"""For each of the three requests. A healthy vLLM answers in milliseconds."""


def find_server(
    options: VllmLifecycleOptions, served_name: str, api_key: str | None, own_pids: Callable[[], Collection[int]]
) -> ServerFound | None:
    """The server; None if there is none. Takes microseconds if nobody listens, at most some seconds. Any thread.

    Args:
        options: The settings, for port and address.
        served_name: The name that it must list.
        api_key: Bearer key of the API.
        own_pids: Finds the processes that are ended before a start anyway, which therefore do not count.
    """
    inodes = listening_inodes(options.port, None)
    if not inodes:
        return None
    # We cannot see who holds sockets of other users: then it is not this user's alone.
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
                return False  # not a vLLM, though it may answer /v1/models as others do
            if judge_health(probe.get("/health", LOOK_SECONDS))[1]:
                return False
            models = probe.get("/v1/models", LOOK_SECONDS)
            return not judge_models(models, served_models(models), served_name)[1]
        except ProbeError:
            return False
