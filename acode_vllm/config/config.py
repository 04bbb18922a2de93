"""Resolves the configuration: flag, then environment, then files, then default, each value with its origin.

`load` reads nothing global: flags, environment, current folder and home are handed in, and besides reading the files
it has no effect. Without a file it never imports yaml (FR-036 to FR-042, AC-022 to AC-028).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from acode_vllm.config.config_files import MODE_SECTION, ConfigFile, read_config_file
from acode_vllm.config.config_places import config_paths, named_file
from acode_vllm.config.configuration import Configuration, Origin, Secrets, Source
from acode_vllm.config.section_reading import expand_paths, note_faults, read_file_values, read_mode_section
from acode_vllm.config.trust import risky_values, shown_risks
from acode_vllm.config.validation import MistakeList, check_together
from acode_vllm.settings.kinds import InvalidValueError
from acode_vllm.settings.table import LOCK_KEY, MODE_KEY, TABLE, Setting, options_from
from acode_vllm.vocabulary.errors import ConfigurationError, Problem, error_for
from acode_vllm.vocabulary.options import MODEL_KEY
from acode_vllm.vocabulary.redaction import API_KEY_NAME, HF_TOKEN_NAMES, Redactor, secret_values
from acode_vllm.vocabulary.safe_text import printable
from acode_vllm.vocabulary.states import OperatingMode

_VARIABLE_PREFIX = "ACODE_VLLM_"


def load(
    flags: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str],
    cwd: Path,
    home: Path,
    only_to_show: bool = False,
) -> Configuration:
    """The configuration that holds for a program started in ``cwd``.

    Args:
        flags: ``model``, ``port``, ``lifecycle_mode``, ``mode`` and ``config``, as text or as values; None is not
            given, and other names are passed over, so that a parser's whole result can be handed in.
        environ: The environment.
        cwd: The current folder, absolute.
        home: The user's home folder.
        only_to_show: Read a file that is not trusted all the same, and warn of it: nothing may act on the result.

    Raises:
        ConfigurationError: ACODE-VLM-010 that lists every mistake; ACODE-VLM-024 where the project's file sets what
            needs trust and has none.
    """
    return _Loading(flags or {}, environ, cwd, home).run(only_to_show=only_to_show)


class _Loading:
    """One resolution: gathers values, origins and mistakes, then decides once."""

    def __init__(self, flags: Mapping[str, object], environ: Mapping[str, str], cwd: Path, home: Path) -> None:
        self._flags, self._environ, self._cwd, self._home = flags, environ, cwd, home
        self._redactor = Redactor(secret_values(environ))
        self._mistakes = MistakeList(self._redactor)
        self._values: dict[str, object] = {setting.key: setting.default for setting in TABLE}
        self._origins: dict[str, Origin] = {setting.key: Origin(Source.DEFAULT) for setting in TABLE}
        self._lines: dict[str, Origin] = {}
        self._warnings: list[str] = []

    def run(self, *, only_to_show: bool) -> Configuration:
        files = self._read(named_file(self._flags, self._environ))
        untrusted = [line for file in files for line in self._take_file(file)]
        for setting in TABLE:
            self._take_override(setting)
        self._warnings += _unknown_variables(self._environ)
        self._take_lock(files)
        secrets = self._take_secrets()
        self._mistakes.raise_if_any(also=tuple(f"needs trust: {line}" for line in untrusted))
        options = options_from(self._values)
        check_together(options, self._origin_of, self._mistakes)
        self._mistakes.raise_if_any()
        if untrusted:
            from acode_vllm.config.trust import trust_store, was_trusted

            changed = was_trusted(trust_store(self._environ, self._home), files[-1].path)
            error = _untrusted(files[-1].path, untrusted, changed)
            if not only_to_show:
                raise error
            self._warnings.append(f"{error.problem.message} Nothing uses these values until: acode config trust.")
            self._warnings += [f"not trusted: {line}" for line in untrusted]
        sources = tuple(file.path for file in files)
        locked = self._values[LOCK_KEY] is True
        return Configuration(
            str(self._values[MODEL_KEY]), options, self._origins, secrets, locked, sources, tuple(self._warnings)
        )

    def _read(self, named: str | None) -> list[ConfigFile]:
        found = config_paths(named, self._environ, str(self._cwd), str(self._home))
        return [file for place in found if (file := read_config_file(*place)) is not None]

    def _origin_of(self, key: str) -> str:
        return str(self._lines.get(key) or self._origins[key])

    def _take_file(self, file: ConfigFile) -> tuple[str, ...]:
        """Takes over what a file sets; returns what of it needs trust and has none."""
        note_faults(file, self._mistakes)
        values = [*read_file_values(file, self._mistakes, self._home), *read_mode_section(file, self._mistakes)]
        for found in values:
            key, value = found.setting.key, found.value
            before = self._values[key]
            # Mappings merge across files, entry by entry; everything else is replaced.
            self._values[key] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
            self._origins[key] = found.origin
            self._lines.update(found.lines)
        risks = risky_values(file, values)
        if not risks:
            return ()
        from acode_vllm.config.trust import is_trusted, trust_store

        trusted = is_trusted(trust_store(self._environ, self._home), file.path, file.digest)
        return () if trusted else shown_risks(risks, self._redactor)

    def _take_override(self, setting: Setting) -> None:
        given = self._flags.get(setting.flag.lstrip("-").replace("-", "_")) if setting.flag else None
        if given is not None:
            # A value that a flag overrides is not looked at in the environment: it does no harm there.
            self._take(setting, given, Origin(Source.FLAG, setting.flag or ""))
        elif setting.variable and self._environ.get(setting.variable):
            self._take(setting, self._environ[setting.variable], Origin(Source.ENVIRONMENT, setting.variable))

    def _take(self, setting: Setting, given: object, origin: Origin) -> None:
        given = expand_paths(setting, given, self._home)
        try:
            self._values[setting.key] = setting.parse(given) if isinstance(given, str) else setting.read(given)
            self._origins[setting.key] = origin
        except InvalidValueError as error:
            self._mistakes.add_invalid(setting, given, error, lambda _where: str(origin))

    def _take_lock(self, files: Iterable[ConfigFile]) -> None:
        lock = find_lock((*self._replaced_files(files), *files))
        mode = self._values[MODE_KEY]
        if lock is not None:
            self._values[LOCK_KEY], self._origins[LOCK_KEY] = True, lock.origin
        if lock is not None and isinstance(mode, OperatingMode):
            mode, origin, warnings = apply_lock(lock, mode, self._origins[MODE_KEY], self._mistakes)
            self._values[MODE_KEY], self._origins[MODE_KEY] = mode, origin
            self._warnings += warnings

    def _replaced_files(self, files: Iterable[ConfigFile]) -> list[ConfigFile]:
        """The files that would count without ``--config``: only their lock does."""
        read = {file.path for file in files}
        replaced = [file for file in self._read(None) if file.path not in read]
        for file in replaced:
            # A file that cannot be read may hold a lock: nobody gets round it by breaking it.
            note_faults(file, self._mistakes, MODE_SECTION)
            read_mode_section(file, self._mistakes)
        return replaced

    def _take_secrets(self) -> Secrets:
        token = next((name for name in HF_TOKEN_NAMES if self._environ.get(name, "").strip()), API_KEY_NAME)
        for name in {token, API_KEY_NAME}:
            value = self._environ.get(name, "").strip()
            if not (value.isascii() and value.isprintable() and " " not in value) and value:
                where = f"environment {name}"
                self._mistakes.add(name, where, "holds spaces, control or other characters no token has")
        return Secrets.of(self._environ)


def _untrusted(path: Path, lines: list[str], changed: bool) -> ConfigurationError:
    why = "it has changed since you trusted it" if changed else "you have not trusted it"
    message = f"{printable(str(path))} sets what can run code or redirect prompts, and {why}."
    error = error_for(Problem("ACODE-VLM-024", message, "Read it; if you trust it: acode config trust.", tuple(lines)))
    assert isinstance(error, ConfigurationError)
    return error


def _unknown_variables(environ: Mapping[str, str]) -> list[str]:
    known = {setting.variable for setting in TABLE}
    unknown = sorted(name for name in environ if name.startswith(_VARIABLE_PREFIX) and name not in known)
    if not unknown:
        return []
    from difflib import get_close_matches

    names = [name for name in known if name]
    nearest = ((name, get_close_matches(name, names, 1)) for name in unknown)
    return [f"environment {name} is unknown" + (f"; did you mean {near[0]}?" if near else "") for name, near in nearest]


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
