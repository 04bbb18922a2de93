"""A bundle for a bug report: what was found, what is known and what was logged, in one file and without secrets."""

from __future__ import annotations

import io
import os
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from acode_vllm.vocabulary.errors import Problem, error_for
from acode_vllm.vocabulary.redaction import MARK, Redactor, holds_secret

KINDS = (".tar.gz", ".tgz", ".zip")
"""How the name of a bundle may end."""
LOG_BYTES = 10 * 1024 * 1024
"""Of each log, so much of its end is packed."""

_TELLING = (
    *("ACODE_", "VLLM_", "HF_", "HUGGING_FACE_", "TRANSFORMERS_", "CUDA_", "HIP_", "ROCR_", "NVIDIA_", "NCCL_"),
    *("TORCH", "PYTORCH", "OMP_", "LD_LIBRARY_PATH", "PYTHONPATH", "PATH", "LANG", "LC_", "XDG_"),
)
"""How the names of the environment variables begin that may change what vLLM or we do."""


def telling_environment(environ: Mapping[str, str], redactor: Redactor) -> dict[str, str]:
    """The variables that may explain something; of a secret only that it is set."""
    return {
        name: MARK if holds_secret(name, value) else redactor.redact(value)
        for name, value in sorted(environ.items())
        if name.startswith(_TELLING)
    }


def machine_facts(folder: Path) -> dict[str, object]:
    """Processors, memory and the disk of ``folder``, as the system has them now."""
    import psutil

    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    while not folder.exists():
        folder = folder.parent
    disk = psutil.disk_usage(str(folder))
    return {
        "processors": {"logical": psutil.cpu_count(), "physical": psutil.cpu_count(logical=False)},
        "load": psutil.getloadavg(),
        "memory_bytes": {"total": memory.total, "available": memory.available, "swap_used": swap.used},
        "disk_bytes": {"total": disk.total, "free": disk.free},
        "up_since": psutil.boot_time(),
    }


def redacted_file(path: Path, redactor: Redactor) -> bytes | None:
    """The end of a file without its secrets; None where there is no plain file that can be read."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - LOG_BYTES))
            content = file.read(LOG_BYTES)
    except OSError:
        return None
    lines = content.decode("utf-8", "replace").splitlines(keepends=True)
    # A line that was cut, here or by a rotation, may hold the half of a secret, which nobody would recognise.
    is_copy = path.suffix.removeprefix(".").isdigit()
    if is_copy and lines and not lines[-1].endswith("\n"):
        lines[-1:] = ["[the rest was left out]\n"]
    if size > LOG_BYTES:
        lines[:1] = [f"[{size - LOG_BYTES} bytes before this were left out]\n"]
    elif is_copy or path.with_name(f"{path.name}.1").exists():
        lines[:1] = ["[the end of the line before this was left out]\n"]
    return "".join(map(redactor.redact, lines)).encode()


def write_bundle(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write a new file, for its user's eyes only (mode 0600), of the kind that its name says.

    Args:
        path: Its path; nothing may be there yet.
        members: Names and contents.

    Raises:
        ConfigurationError: ACODE-VLM-010, where it is there already, cannot be written, or its name ends otherwise.
    """
    check_path(path)
    pack = _zipped if path.name.endswith(".zip") else _tarred
    content = pack(members, path.name.removesuffix(".zip").removesuffix(".tgz").removesuffix(".tar.gz"))
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _refused(f"{path} cannot be written: {error.strerror}.") from error
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _refused(f"{path} cannot be written: {error.strerror}.") from error


def check_path(path: Path) -> None:
    """Refuse at once what could not be written later.

    Raises:
        ConfigurationError: ACODE-VLM-010.
    """
    if not path.name.endswith(KINDS) or path.name in KINDS:
        raise _refused(f"{path} is no name for a bundle: it must end in {', '.join(KINDS)}.")
    if os.path.lexists(path):
        raise _refused(f"{path} exists already, and was left as it is.")
    if not path.parent.is_dir():
        raise _refused(f"There is no folder {path.parent}.")


def _refused(message: str) -> Exception:
    return error_for(Problem("ACODE-VLM-010", message, "Name another file: acode doctor --bundle report.tar.gz"))


def _tarred(members: Iterable[tuple[str, bytes]], folder: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in members:
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mode, entry.mtime = len(content), 0o600, int(time.time())
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _zipped(members: Iterable[tuple[str, bytes]], folder: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(f"{folder}/{name}", content)
    return packed.getvalue()


Redact = Callable[[str], str]


def redacted(data: object, redact: Redact) -> object:
    """JSON data with every text, keys included, redacted."""
    if isinstance(data, dict):
        return {redact(str(key)): _entry(str(key), value, redact) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [redacted(item, redact) for item in data]
    return redact(data) if isinstance(data, str) else data


def _entry(key: str, value: object, redact: Redact) -> object:
    return MARK if isinstance(value, str) and holds_secret(key, value) else redacted(value, redact)
