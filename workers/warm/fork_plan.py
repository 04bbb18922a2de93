"""What may be forked, and by which fork server: decisions from a plan, its files and its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from acode_vllm.vocabulary.redaction import names_secret
from acode_vllm.workers.messages.process_messages import LaunchPlan
from acode_vllm.workers.vllm.build import site_folders
from acode_vllm.workers.vllm.spawn import FIXED_ENVIRONMENT

_PER_START = frozenset(
    {"CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "VLLM_HOST_IP", "VLLM_CPU_KVCACHE_SPACE"}
)
"""Read when they are used, not when modules are imported."""
_OF_A_SESSION = frozenset(
    {"PWD", "OLDPWD", "SHLVL", "_", "TERM", "COLORTERM", "LINES", "COLUMNS", "DISPLAY", "WAYLAND_DISPLAY", "WINDOWID"}
    | {"TMUX", "TMUX_PANE", "STY", "PS1", "PROMPT_COMMAND", "INVOCATION_ID", "JOURNAL_STREAM", "NOTIFY_SOCKET"}
    | {"LISTEN_PID", "LISTEN_FDS", "WATCHDOG_PID", "WATCHDOG_USEC", "MAINPID", "LS_COLORS", "PYTEST_CURRENT_TEST"}
)
_SESSION_PREFIXES = ("SSH_", "TERM_", "XDG_SESSION", "XDG_SEAT", "XDG_VTNR", "XDG_RUNTIME", "DBUS_", "SYSTEMD_")
"""What differs from terminal to terminal, and means nothing to vLLM."""


@dataclass(frozen=True)
class ForkKey:
    """What a fork server is made with: a start that differs in any of it wants another.

    Attributes:
        interpreter: vLLM's Python.
        packages: The folders of its packages, with when each last changed: an installation changes that.
        environment: What vLLM's modules may read when they are imported; no secret.
    """

    interpreter: str
    packages: tuple[tuple[str, int], ...]
    environment: Mapping[str, str] = field(hash=False)


def key_of(argv: tuple[str, ...], plan: LaunchPlan) -> ForkKey:
    """The key of the fork server that this start wants. Looks at some folders; some 0.1 ms."""
    folders = [folder for folder in site_folders(Path(argv[0])) if folder.is_dir()]
    packages = tuple((str(folder), folder.stat().st_mtime_ns) for folder in folders)
    return ForkKey(argv[0], packages, import_environment(plan.env))


def import_environment(env: Mapping[str, str]) -> dict[str, str]:
    """What of a server's environment its fork server has, too."""
    kept = {
        name: value
        for name, value in env.items()
        if name not in _PER_START
        and name not in _OF_A_SESSION
        and not name.startswith(_SESSION_PREFIXES)
        and not names_secret(name)
    }
    return {**kept, **FIXED_ENVIRONMENT}


def available_bytes() -> int | None:
    """Memory that programs could be given now, on this machine and in this control group; None where nobody says."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            machine = next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
    try:
        group = Path("/proc/self/cgroup").read_text(encoding="ascii").rpartition("::")[2].strip()
        folder = Path("/sys/fs/cgroup", group.lstrip("/"))
        limit, used = (int((folder / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no such group, or no limit ("max")
        return machine
    return min(machine, max(0, limit - used))
