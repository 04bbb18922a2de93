"""The folder of one service: ``${XDG_STATE_HOME:-~/.local/state}/acode/vllm/PORT/``.

One service is (user, port). Its folder holds the ownership lock, the service record, the history and vLLM's log,
and is nobody else's business: mode 0700, owned by this user, no symbolic link.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from acode_vllm.records.service_paths import state_path
from acode_vllm.vocabulary.errors import Problem, StateFolderError


def state_home(environ: Mapping[str, str]) -> Path:
    """The user's folder for state.

    Raises:
        StateFolderError: ACODE-VLM-029: nothing says where it is.
    """
    path = state_path(environ)
    if not path.startswith("/"):
        raise StateFolderError(
            Problem(
                "ACODE-VLM-029",
                f"There is no folder for the state of services: the user with ID {os.getuid()} has no home folder.",
                "Set XDG_STATE_HOME (or HOME) to a folder that this user can write.",
            )
        )
    return Path(path)


def services_root(environ: Mapping[str, str]) -> Path:
    """The folder that holds one folder for each service of this user."""
    return state_home(environ) / "acode" / "vllm"


@dataclass(frozen=True)
class ServiceFolder:
    """The paths of one service. Making the value touches nothing; `ensure` creates the folder."""

    path: Path

    @classmethod
    def of(cls, environ: Mapping[str, str], port: int) -> ServiceFolder:
        """The folder of this user's service on ``port``."""
        return cls(services_root(environ) / str(port))

    @classmethod
    def all_of(cls, environ: Mapping[str, str]) -> list[tuple[int, ServiceFolder]]:
        """Port and folder of every service that this user has or had, by port."""
        try:
            names = os.listdir(services_root(environ))
        except OSError:
            return []
        ports = sorted(int(name) for name in names if name.isascii() and name.isdigit())
        return [(port, cls.of(environ, port)) for port in ports]

    @property
    def lock(self) -> Path:
        """Held by the owner as long as it lives."""
        return self.path / "owner.lock"

    @property
    def record(self) -> Path:
        """What is known of the service."""
        return self.path / "service.json"

    @property
    def history(self) -> Path:
        """What has happened to it."""
        return self.path / "history.jsonl"

    @property
    def mark(self) -> Path:
        """The mark of the tree that was spawned last, written just before it was."""
        return self.path / "mark.json"

    @property
    def shared_memory(self) -> Path:
        """What its trees have used in ``/dev/shm``."""
        return self.path / "shared-memory.json"

    @property
    def control(self) -> Path:
        """The owner's socket."""
        return self.path / "control.sock"

    @property
    def keeper_log(self) -> Path:
        """What detached keepers say."""
        return self.path / "keeper.log"

    @property
    def log(self) -> Path:
        """VLLM's own output."""
        return self.path / "vllm.log"

    @property
    def fork_server_log(self) -> Path:
        """What the process that imports vLLM for warm starts printed."""
        return self.path / "fork-server.log"

    def ensure(self) -> None:
        """Create the folder, or make sure that the one that is there can be trusted.

        Raises:
            StateFolderError: ACODE-VLM-029, when it is a link, belongs to another user, or cannot be written.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = os.lstat(self.path)
            if stat.S_ISLNK(found.st_mode) or not stat.S_ISDIR(found.st_mode):
                raise self._error("it is not a folder but a link or a file")
            if found.st_uid != os.getuid():
                raise self._error(f"it belongs to another user (uid {found.st_uid})")
            if stat.S_IMODE(found.st_mode) & 0o077:
                os.chmod(self.path, 0o700)
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise self._error("it cannot be written")
        except OSError as error:
            raise self._error(f"{error.strerror or error}") from error

    def _error(self, why: str) -> StateFolderError:
        return StateFolderError(
            Problem(
                "ACODE-VLM-029",
                f"The folder of the service, {self.path}, cannot be used: {why}.",
                "Mend its owner, permissions or disk, or set XDG_STATE_HOME to a folder of your own.",
            )
        )
