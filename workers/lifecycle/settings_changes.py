"""What a server that runs would be started with otherwise, had it to be started now. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from acode_vllm.vocabulary.server_process import ServerProcess
from acode_vllm.workers.machine.process_tree import MARK_VARIABLE
from acode_vllm.workers.messages.process_messages import LaunchPlan
from acode_vllm.workers.vllm.spawn import FIXED_ENVIRONMENT


def changes_since_start(server: ServerProcess, plan: LaunchPlan, environment: bytes) -> tuple[str, ...]:
    """Each difference in words: an option with both values, a variable of the environment with its name alone.

    Args:
        server: What runs.
        plan: What would be started now.
        environment: The server's as the kernel shows it; empty where it cannot be read, and nothing is said of it.
    """
    before, now = _options(server.command), _options(plan.argv)
    texts = [_text(name, before.get(name), now.get(name)) for name in sorted(before.keys() | now.keys())]
    return (*filter(None, texts), *_variables(plan, environment))


def _options(command: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """The options of a command line with their values; what comes before the first is the command itself."""
    places = [n for n, text in enumerate(command) if text.startswith("--")]
    found: dict[str, tuple[str, ...]] = {"command": tuple(command[: places[0]] if places else command)}
    for begin, end in pairwise([*places, len(command)]):
        name, equals, value = command[begin].partition("=")
        found[name] = (*found.get(name, ()), *((value,) if equals else ()), *command[begin + 1 : end])
    return found


def _text(name: str, before: tuple[str, ...] | None, now: tuple[str, ...] | None) -> str:
    if before == now:
        return ""
    if before is None:
        return " ".join((name, *(now or ()))) + " is new"
    if now is None:
        return f"{name} is gone"
    return f"{name} {' '.join(before)} is now {' '.join(now)}"


def _variables(plan: LaunchPlan, environment: bytes) -> Iterator[str]:
    """The user's own variables and those that name the devices; what else a program's environment holds is no setting.

    A value may be a secret, and is not shown.
    """
    if not environment:
        return
    runs = dict(entry.partition(b"=")[::2] for entry in environment.split(b"\0") if entry)
    names = {*plan.options.server.env, *(n for n in plan.env if n.endswith("_VISIBLE_DEVICES"))}
    for name in sorted(names - FIXED_ENVIRONMENT.keys() - {MARK_VARIABLE}):
        wanted = plan.env.get(name)
        if runs.get(name.encode()) != (None if wanted is None else wanted.encode("utf-8", "surrogateescape")):
            yield f"environment {name} is another"
