"""Several services of one test, each with a port, a state folder, a cache and a configuration of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from acode_command import Said, acode
from real_service import RealService, settings
from standin import free_port

AT_ONCE = 2
"""Commands that run beside each other: vLLM's start keeps one core busy."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class OwnService:
    """One service, as the command sees it.

    Attributes:
        folder: Holds everything of it.
        port: Of the server.
        environ: For the command.
    """

    folder: Path
    port: int
    environ: Mapping[str, str] = field(repr=False)

    @classmethod
    def like(cls, service: RealService, folder: Path, environ: Mapping[str, str], **changes: Any) -> OwnService:
        """A service with the real vLLM's settings, changed as told, and an empty cache of models.

        Args:
            service: The service of the test, whose vLLM it runs.
            folder: Where it is made.
            environ: Added to the environment.
            changes: To ``providers.vllm``; a section is merged.
        """
        folder.mkdir(parents=True)
        options = replace(service.options, port=free_port())
        content: dict[str, Any] = settings(options)
        for key, value in changes.items():
            content[key] = {**content[key], **value} if isinstance(value, dict) else value
        config = folder / "acode.yml"
        config.write_text(json.dumps({"providers": {"vllm": content}}), encoding="utf-8")
        own = {
            "XDG_STATE_HOME": str(folder / "state"),
            "HF_HOME": str(folder / "hf"),
            "ACODE_CONFIG": str(config),
        }
        inherited = {name: value for name, value in service.environ.items() if name != "HF_HUB_OFFLINE"}
        return cls(folder, options.port, {**inherited, **own, **environ})

    @property
    def log(self) -> Path:
        """vLLM's log."""
        return self.folder / "state" / "acode" / "vllm" / str(self.port) / "vllm.log"

    def acode(self, *arguments: str, once_started: Callable[[], object] | None = None) -> Said:
        """Run the command for this service."""
        return acode(self.environ, *arguments, once_started=once_started)

    def written(self) -> str:
        """Every record and log that it left, as one text."""
        files = sorted(path for path in (self.folder / "state").rglob("*") if path.is_file())
        return "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in files)


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Do the work for every item, some at a time; the results in the order of the items."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(work, items))
