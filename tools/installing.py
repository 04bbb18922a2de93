"""What the set-up scripts share: one line per step with its time, a log with the rest, and a lock between them.

Only the standard library: it runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import fcntl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

SHOWN_ON_FAILURE = 25
"""Lines of the log that are shown where a step failed."""


class SetupError(Exception):
    """A step failed; the text says which, why, and what to do."""


@contextlib.contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Holds ``lock`` for the duration; a second ``make`` waits for the first. The kernel frees it with its holder."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say(f"waiting for another make that holds {lock}")
            fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def say(text: str) -> None:
    """Prints one line at once."""
    print(text, flush=True)


def step(title: str, command: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None) -> None:
    """Runs ``command`` with its output in ``log`` and prints ``title`` with the seconds it took.

    Raises:
        SetupError: It failed; the last lines of its output are in the text.
    """
    started = time.monotonic()
    print(f"{title} …", end="", flush=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"\n$ {' '.join(command)}\n")
        file.flush()
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=env, check=False
        )
    took = time.monotonic() - started
    print(f" {'done' if done.returncode == 0 else 'FAILED'} ({took:.0f} s)", flush=True)
    if done.returncode != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-SHOWN_ON_FAILURE:]
        raise SetupError("\n".join([f"{title}: exit code {done.returncode}. From {log}:", *lines]))
