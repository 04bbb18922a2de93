"""Finds the command that starts vLLM, resolves it to an absolute path, and detects a broken one.

It reads files (the script's interpreter, the package beside it) and does not run vLLM: ``vllm --version`` takes 10 s
or more. Only `verify_command`, for a diagnosis, runs the interpreter.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from acode_vllm.vocabulary.errors import Problem, error_for
from acode_vllm.vocabulary.redaction import redact
from acode_vllm.workers.vllm.build import VllmBuild, build_of, site_folders

MODULE = "vllm.entrypoints.openai.api_server"
"""The module for ``python -m`` (FR-007)."""

_CHECK = "To check an installation: vllm --version"


@dataclass(frozen=True)
class VllmCommand:
    """A command that starts vLLM's API server.

    Attributes:
        argv: The command without options; the program is an absolute path.
        interpreter: The Python that it runs, if known.
        origin: Where it was found, as text for people.
    """

    argv: tuple[str, ...]
    interpreter: Path | None
    origin: str

    def with_model(self, model: str) -> tuple[str, ...]:
        """The command with its model: a positional argument for ``vllm serve``, else ``--model`` (FR-008).

        Newer versions of ``vllm serve`` warn about ``--model`` and refuse ``--served-model-name`` beside it.
        """
        return (*self.argv, model) if self.argv[-1] == "serve" else (*self.argv, "--model", model)

    def build(self) -> VllmBuild | None:
        """The installation it belongs to, from its files; None if unknown. Takes some milliseconds."""
        return None if self.interpreter is None else build_of(self.interpreter)


def find_vllm(command: tuple[str, ...] | None, environ: Mapping[str, str]) -> VllmCommand:
    """The command to use (FR-007).

    Args:
        command: The user's command (``providers.vllm.command``); None to search PATH and then beside this Python.
        environ: The environment with the PATH to search.

    Raises:
        VllmServiceError: 008 if there is none, 009 if it cannot work, 010 for a relative path.
    """
    if command is not None:
        return _named(command, environ)
    script = find_program("vllm", environ)
    if script is not None:
        return _installed(script, environ)
    if sys.executable and build_of(Path(sys.executable)) is not None:
        return VllmCommand((sys.executable, "-m", MODULE), Path(sys.executable), "the Python that runs acode")
    raise error_for(
        Problem(
            "ACODE-VLM-008",
            "vLLM is not installed: there is no vllm on PATH, and this Python has none either.",
            "Install it (pip install vllm), activate the environment that has it, or name its command with "
            f"providers.vllm.command. {_CHECK}",
            (f"PATH={environ.get('PATH', '')}", f"Python: {sys.executable}"),
        )
    )


def find_program(name: str, environ: Mapping[str, str]) -> Path | None:
    """An executable file of this name on PATH. Skips entries that are relative, empty or the current folder.

    So the program is the same from every folder, and never one from a cloned repository.
    """
    for entry in environ.get("PATH", "").split(os.pathsep):
        path = Path(entry, name)
        if os.path.isabs(entry) and not _is_current_folder(entry) and path.is_file() and os.access(path, os.X_OK):
            return path
    return None


def interpreter_of(script: Path, environ: Mapping[str, str]) -> Path | None:
    """The Python that a console script names as its interpreter; None if it names none.

    Understands ``#!/path/python``, ``#!/usr/bin/env python``, and the two lines that pip, uv and conda write for a path
    that is too long for the kernel or contains a space (``#!/bin/sh`` and ``'''exec' "/path/python" "$0" "$@"``).
    """
    try:
        with script.open("rb") as file:
            lines = file.read(4096).decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    if not lines or not lines[0].startswith("#!"):
        return None
    words = lines[0][2:].split()
    program = words[0] if words else ""
    if os.path.basename(program) in ("sh", "bash", "dash"):
        match = re.match(r"""'''exec'\s+(?:"([^"]+)"|'([^']+)'|(\S+))\s""", lines[1]) if len(lines) > 1 else None
        program = next((group for group in match.groups() if group), "") if match else ""
    elif os.path.basename(program) == "env":
        name = next((word for word in words[1:] if not word.startswith("-") and "=" not in word), "")
        found = find_program(name, environ) if name and "/" not in name else None
        program = str(found or name)
    is_python = os.path.basename(program).startswith(("python", "pypy"))
    return Path(program) if is_python and os.path.isabs(program) else None


def fork_argv(argv: tuple[str, ...], environ: Mapping[str, str]) -> tuple[str, ...] | None:
    """The command as its interpreter runs it; None if it is not clearly vLLM's own (a wrapper, a container)."""
    if argv[1:3] == ("-m", MODULE) and os.path.basename(argv[0]).startswith("python"):
        return argv
    script = Path(argv[0])
    if script.name != "vllm":
        return None
    interpreter = interpreter_of(script, environ)
    try:
        is_console_script = "from vllm.entrypoints.cli.main import main" in script.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    return (str(interpreter), *argv) if interpreter is not None and is_console_script else None


def verify_command(command: VllmCommand, timeout: float = 60.0) -> Problem | None:
    """Run the interpreter to check that it can import vLLM; None if it can or is unknown. Takes seconds."""
    if command.interpreter is None:
        return None
    try:
        done = subprocess.run(
            (str(command.interpreter), "-c", "import vllm, vllm.version"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=timeout,
            cwd="/",
            check=False,
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )
    except subprocess.TimeoutExpired:
        return _broken(command.argv[0], f"importing vllm takes more than {timeout:.0f} s")
    except OSError as error:
        return _broken(command.argv[0], f"{command.interpreter}: {error.strerror}")
    if done.returncode == 0:
        return None
    lines = redact(done.stderr.decode("utf-8", "replace")).strip().splitlines()
    return _broken(command.argv[0], "its Python cannot import vllm", tuple(lines[-3:]))


def _named(command: tuple[str, ...], environ: Mapping[str, str]) -> VllmCommand:
    program, origin = command[0], "providers.vllm.command"
    if "/" in program and not os.path.isabs(program):
        raise error_for(
            Problem(
                "ACODE-VLM-010",
                f"providers.vllm.command names {program}, a relative path, which depends on the current folder.",
                "Give its absolute path, or a name that is found on PATH.",
            )
        )
    path = Path(program) if os.path.isabs(program) else find_program(program, environ)
    if path is None or not path.exists():
        where = "There is no" if os.path.isabs(program) else "There is no program on PATH that is called"
        raise error_for(Problem("ACODE-VLM-008", f"{where} {program}.", f"Correct providers.vllm.command. {_CHECK}"))
    if not path.is_file() or not os.access(path, os.X_OK):
        raise error_for(_broken(program, "it is no executable file"))
    is_python = path.name.startswith(("python", "pypy"))
    interpreter = path if is_python else interpreter_of(path, environ)
    if path.name == "vllm":
        _require_parts(path, interpreter, environ)
    arguments = command[1:] or (("serve",) if path.name == "vllm" else ())
    return VllmCommand((str(path), *arguments), interpreter, origin)


def _installed(script: Path, environ: Mapping[str, str]) -> VllmCommand:
    interpreter = interpreter_of(script, environ)
    _require_parts(script, interpreter, environ)
    if interpreter is not None and _may_have_module(interpreter):
        # The script reads the metadata of a distribution called vllm, which CPU builds do not have.
        return VllmCommand((str(interpreter), "-m", MODULE), interpreter, f"{script} on PATH")
    return VllmCommand((str(script), "serve"), interpreter, f"{script} on PATH")


def _require_parts(script: Path, interpreter: Path | None, environ: Mapping[str, str]) -> None:
    """Raise 009 if the files show that the script cannot work."""
    if interpreter is None:
        return
    if not os.access(interpreter, os.X_OK):
        raise error_for(_broken(str(script), f"its interpreter {interpreter} does not exist or cannot be executed"))
    folders = site_folders(interpreter)
    if folders and not environ.get("PYTHONPATH") and build_of(interpreter) is None:
        raise error_for(_broken(str(script), f"there is no vllm in {', '.join(map(str, folders))}"))


def _may_have_module(interpreter: Path) -> bool:
    packages = [folder / "vllm" for folder in site_folders(interpreter) if (folder / "vllm").is_dir()]
    # Without a folder it may be an editable installation, whose package is elsewhere.
    return not packages or (packages[0] / "entrypoints/openai/api_server.py").is_file()


def _is_current_folder(entry: str) -> bool:
    try:
        return os.path.samefile(entry, os.curdir)
    except OSError:
        return False


def _broken(program: str, reason: str, evidence: tuple[str, ...] = ()) -> Problem:
    return Problem(
        "ACODE-VLM-009",
        f"{program} is there but broken: {reason}.",
        f"Run it by hand: {program} --version. Then repair or reinstall its environment (pip install --force-reinstall "
        "vllm), or name another command with providers.vllm.command.",
        evidence,
    )
