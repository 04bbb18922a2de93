"""A configuration that is known from when it was last resolved, else resolved now and remembered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from acode_vllm.config.configuration import Configuration, Origin, Secrets
from acode_vllm.config.settings_cache import digest_of, recall, remember
from acode_vllm.vocabulary.codec import decode, encode
from acode_vllm.vocabulary.options import VllmLifecycleOptions


def load_known(flags: Mapping[str, object], *, environ: Mapping[str, str], cwd: Path, home: Path) -> Configuration:
    """As `acode_vllm.config.config.load`, and as that would answer now, but mostly without reading YAML.

    Raises:
        ConfigurationError: As `acode_vllm.config.config.load`.
    """
    digest = digest_of(flags, environ, str(cwd), str(home))
    entry = recall(digest, environ, str(home))
    if entry is not None:
        try:
            return _configuration(entry, environ)
        except (ValueError, LookupError, TypeError, AttributeError):
            pass  # damaged: it is written anew
    from acode_vllm.config.config import load

    configuration = load(flags, environ=environ, cwd=cwd, home=home)
    # What changed while it was read may have been read half; then nothing is known.
    if digest is not None and digest == digest_of(flags, environ, str(cwd), str(home)):
        remember(digest, _entry(configuration), environ, str(home))
    return configuration


def _entry(configuration: Configuration) -> dict[str, Any]:
    return {
        "model": configuration.model,
        "options": encode(configuration.options),
        "origins": encode(configuration.origins),
        "locked": configuration.locked,
        "sources": [str(path) for path in configuration.sources],
        "warnings": list(configuration.warnings),
    }


def _configuration(entry: Mapping[str, Any], environ: Mapping[str, str]) -> Configuration:
    return Configuration(
        model=decode(str, entry["model"]),
        options=decode(VllmLifecycleOptions, entry["options"]),
        origins={key: decode(Origin, origin) for key, origin in entry["origins"].items()},
        secrets=Secrets.of(environ),
        locked=decode(bool, entry["locked"]),
        sources=tuple(Path(path) for path in entry["sources"]),
        warnings=tuple(decode(str, warning) for warning in entry["warnings"]),
    )
