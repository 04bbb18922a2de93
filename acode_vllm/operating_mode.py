"""Which operating mode holds: flag, environment, file, default, and above them all a lock to airgapped (Task 001).

A lock counts from every file there is, also from one that ``--config`` replaces: nothing overrides it. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from acode_vllm.config_files import ConfigFile
from acode_vllm.origins import Origin, Source
from acode_vllm.settings import LOCK_KEY, MODE_KEY
from acode_vllm.states import OperatingMode
from acode_vllm.validation import MistakeList


@dataclass(frozen=True)
class Lock:
    """A file that locks the operating mode to airgapped."""

    origin: Origin


def find_lock(files: Sequence[ConfigFile]) -> Lock | None:
    """The lock that the last of the files holds, if any does."""
    for file in reversed(files):
        section = file.sections.get("mode")
        entry = section.children.get("airgapped_lock") if section else None
        if entry is not None and entry.value is True:
            return Lock(Origin(Source.FILE, str(file.path), entry.line))
    return None


def apply_lock(
    lock: Lock, mode: OperatingMode, origin: Origin, found: MistakeList
) -> tuple[OperatingMode, Origin, tuple[str, ...]]:
    """The mode under a lock, where it comes from, and a warning where the environment wants another one.

    A flag that wants another one is a mistake: whoever typed it waits for an effect that it cannot have.
    """
    if mode is OperatingMode.AIRGAPPED:
        return mode, origin, ()
    reason = f"is overridden: {LOCK_KEY} in {lock.origin} locks the mode to airgapped"
    if origin.source is Source.FLAG:
        found.add_value(MODE_KEY, str(origin), mode, reason)
    warnings = (f"{origin} = {mode.value} {reason}",) if origin.source is Source.ENVIRONMENT else ()
    return OperatingMode.AIRGAPPED, lock.origin, warnings
