"""Makes the project's own virtual environment, and brings it up to date when files or dependencies have changed.

    python tools/setup_venv.py .build/venv

The install is an editable one in strict mode: our folders are mapped into one package (see setup.cfg), and strict mode
makes that mapping visible to mypy and to editors. It links file by file, so it is done again whenever a file is added.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from pathlib import Path

from installing import SetupError, only_one, say, step

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("acode_vllm", "supervisor", "workers")
OLDEST = (3, 10)


def fingerprint(root: Path) -> str:
    """Changes when the metadata or the list of source files does."""
    digest = hashlib.sha256(f"{sys.version} {root}\n".encode())
    for name in ("setup.cfg", "pyproject.toml"):
        digest.update((root / name).read_bytes())
    for folder in SOURCES:
        digest.update("".join(f"{path}\n" for path in sorted((root / folder).rglob("*.py"))).encode())
    return digest.hexdigest()


def set_up(home: Path) -> None:
    """Makes ``home`` what it should be; does nothing where it is.

    Raises:
        SetupError: This Python is too old, or a step failed.
    """
    if sys.version_info < OLDEST:
        raise SetupError(f"Python {OLDEST[0]}.{OLDEST[1]} or newer is needed, this is {sys.version.split()[0]}")
    stamp, wanted = home / "installed", fingerprint(ROOT)
    if stamp.is_file() and stamp.read_text(encoding="ascii") == wanted:
        return
    log = home.with_suffix(".log")
    log.write_text(time.strftime("%Y-%m-%d %H:%M:%S %z\n"), encoding="utf-8")
    pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    if not stamp.is_file():  # new, or left half-made by an interrupted run
        step(f"making a virtual environment in {home}", [sys.executable, "-m", "venv", "--clear", str(home)], log)
    stamp.unlink(missing_ok=True)
    command = [*pip, "install", "--editable", f"{ROOT}[test,docs,lint]", "--config-settings", "editable_mode=strict"]
    step("installing the project and its tools into it", command, log)
    stamp.write_text(wanted, encoding="ascii")


def main() -> int:
    """0, or 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(description="Makes or refreshes the project's virtual environment.")
    parser.add_argument("home", type=Path, help="folder of the environment")
    home = parser.parse_args().home.resolve()
    try:
        with only_one(home.with_suffix(".lock")):
            set_up(home)
    except SetupError as error:
        print(f"\nThe project's virtual environment could not be made.\n{error}", file=sys.stderr)
        if "ensurepip" in str(error):
            say("On Debian and Ubuntu: apt-get install python3-venv")
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the next make goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
