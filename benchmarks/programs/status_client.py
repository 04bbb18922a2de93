"""Asks the control socket for the status at a steady rate; prints how late each answer was, as JSON.

A request that could not be sent in time counts from the moment that it was due.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from collections import deque

REQUEST = b'{"v":1,"id":1,"do":"status"}\n'


class Client:
    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        os.chdir(os.path.dirname(path))  # the path of a Unix socket may have 107 bytes
        self.socket.connect(os.path.basename(path))
        self.due: deque[float] = deque()
        self.socket.recv(65536)  # the greeting

    def send(self, due: float) -> None:
        self.due.append(due)
        self.socket.sendall(REQUEST)

    def answers(self) -> list[float]:
        data = self.socket.recv(1 << 20)
        now = time.monotonic()
        return [now - self.due.popleft() for _ in range(data.count(b"\n"))]


def load(clients: list[Client], rate: int, seconds: float) -> list[float]:
    taken: list[float] = []
    total = int(rate * seconds)
    begun, sent = time.monotonic(), 0
    by_descriptor = {client.socket.fileno(): client for client in clients}
    poll = select.poll()
    for descriptor in by_descriptor:
        poll.register(descriptor, select.POLLIN)
    while len(taken) < total:
        now = time.monotonic()
        while sent < total and begun + sent / rate <= now:
            clients[sent % len(clients)].send(begun + sent / rate)
            sent += 1
        left = begun + sent / rate - time.monotonic() if sent < total else 10.0
        for descriptor, _ in poll.poll(max(0.0, left * 1000)):
            taken += by_descriptor[descriptor].answers()
    return taken


def main() -> None:
    clients = [Client(sys.argv[1]) for _ in range(int(sys.argv[3]))]
    for line in sys.stdin:
        print(json.dumps(load(clients, int(sys.argv[2]), json.loads(line)["seconds"])), flush=True)


if __name__ == "__main__":
    main()
