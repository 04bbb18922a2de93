"""What one writes in an afternoon: a server, kept up by subprocess, threading and requests."""

import subprocess
import sys
import threading
import time

import requests


class Watcher:
    def __init__(self, url: str, command: list[str], interval: float = 1.0) -> None:
        self.url, self.command, self.interval = url, command, interval
        self.stopping = threading.Event()
        self.session = requests.Session()
        self.process = self.start()
        threading.Thread(target=self.watch, daemon=True).start()

    def start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(self.command, start_new_session=True)

    def watch(self) -> None:
        checked = time.monotonic()
        while not self.stopping.wait(self.interval):
            if self.process.poll() is not None:
                print("crashed", time.monotonic(), flush=True)
                self.process = self.start()
            elif time.monotonic() - checked > 60:
                checked = time.monotonic()
                try:
                    self.session.get(f"{self.url}/health", timeout=5).raise_for_status()
                except requests.RequestException:
                    self.process.kill()


if __name__ == "__main__":
    watcher = Watcher(sys.argv[1], sys.argv[2:])
    sys.stdin.read()
    watcher.stopping.set()
    watcher.process.terminate()
