"""The limit of what Python can do: a thread in ``waitid``, and ``subprocess.Popen``. A line starts a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time


def watch(pid: int) -> None:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    print("crashed", time.monotonic(), flush=True)


def main() -> None:
    command = json.loads(sys.argv[1])
    for _ in sys.stdin:
        begun = time.monotonic()
        process = subprocess.Popen(command, start_new_session=True)
        print("started", begun, time.monotonic(), flush=True)
        watcher = threading.Thread(target=watch, args=(process.pid,))
        watcher.start()
        watcher.join()
        process.wait()


if __name__ == "__main__":
    main()
