"""The settings that hold for a program, read again when one of their files has changed.

A look costs some microseconds: the files' times and sizes, nothing of their content.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from acode_vllm.config.config import load
from acode_vllm.config.config_places import config_paths, named_file, project_paths
from acode_vllm.config.configuration import Configuration
from acode_vllm.config.remembered_model import model_to_serve, remembered_model_file
from acode_vllm.config.trust import trust_store
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.vocabulary.errors import VllmServiceError

_log = logging.getLogger("acode_vllm.configuration")

_Look = tuple[tuple[int, int, int] | None, ...]
"""Of each file: when it was changed, its size, which file it is; None where there is none."""


class LiveConfiguration:
    """Used by one thread at a time.

    Attributes:
        configuration: The settings as they were last read without a mistake.
        model: The model to serve by them: what ``set-model`` remembered included.
    """

    def __init__(self, flags: Mapping[str, object], environ: Mapping[str, str], cwd: Path, home: Path) -> None:
        """Read the settings.

        Raises:
            ConfigurationError: As `load`.
        """
        self._arguments = (dict(flags), dict(environ), cwd, home)
        self.configuration, self.model = self._load()
        self._paths = tuple(self._files())
        self._seen = self._look()

    def refresh(self) -> bool:
        """Read the settings again, where a file has changed since; whether they are others now.

        Settings with a mistake are logged, and those from before still hold.
        """
        look = self._look()
        if look == self._seen:
            return False
        self._seen = look
        try:
            configuration, model = self._load()
        except VllmServiceError as error:
            _log.error("the configuration is wrong, and what was read before still holds: %s", error)
            return False
        before = (self.model, self.configuration.options)
        self.configuration, self.model = configuration, model
        self._paths = tuple(self._files())
        self._seen = self._look()
        return (model, configuration.options) != before

    def _load(self) -> tuple[Configuration, str]:
        flags, environ, cwd, home = self._arguments
        configuration = load(flags, environ=environ, cwd=cwd, home=home)
        return configuration, model_to_serve(configuration, self._folder(configuration))

    def _folder(self, configuration: Configuration) -> ServiceFolder:
        return ServiceFolder.of(self._arguments[1], configuration.options.port)

    def _files(self) -> Iterator[str]:
        """The files that count, and those that would if they were there."""
        flags, environ, cwd, home = self._arguments
        for _, path in config_paths(named_file(flags, environ), environ, str(cwd), str(home)):
            yield path
        yield from project_paths(str(cwd))
        yield str(trust_store(environ, home))
        yield str(remembered_model_file(self._folder(self.configuration)))

    def _look(self) -> _Look:
        return tuple(_look_at(path) for path in self._paths)


def _look_at(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
