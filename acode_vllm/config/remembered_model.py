"""The model that ``acode providers set-model`` chose, remembered in the service's folder.

It ranks below flag and environment and above the configuration file, until the file's own model changes: then the
file's is the later wish.
"""

from __future__ import annotations

import json
from pathlib import Path

from acode_vllm.config.configuration import Configuration, Source
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.vocabulary.atomic_file import replace_file
from acode_vllm.vocabulary.options import MODEL_KEY


def named_model(configuration: Configuration, folder: ServiceFolder) -> str | None:
    """The model of a flag or the environment, else what was remembered, else the file's; None if nobody named one."""
    configured, source = configuration.model, configuration.origins[MODEL_KEY].source
    if source in (Source.FLAG, Source.ENVIRONMENT):
        return configured
    return remembered_model(folder, configured) or (configured if source is Source.FILE else None)


def model_to_serve(configuration: Configuration, folder: ServiceFolder) -> str:
    """The named model, else the specification's default."""
    return named_model(configuration, folder) or configuration.model


def remembered_model_file(folder: ServiceFolder) -> Path:
    """Where it is remembered."""
    return folder.path / "model.json"


def remember_model(folder: ServiceFolder, model: str, configured: str) -> None:
    """Remember ``model`` for as long as the configuration says ``configured``.

    Raises:
        OSError: It could not be written.
        StateFolderError: The folder cannot be used.
    """
    folder.ensure()
    content = json.dumps({"model": model, "configured": configured})
    replace_file(remembered_model_file(folder), content.encode(), durable=True)


def remembered_model(folder: ServiceFolder, configured: str) -> str | None:
    """The remembered model; None where there is none, or the configuration has changed since."""
    try:
        data = json.loads(remembered_model_file(folder).read_bytes())
        model, then = data["model"], data["configured"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return model if isinstance(model, str) and then == configured else None
