"""Malformed messages for a control socket, from many clients at once.

    python control_fuzz.py SOCKET CLIENTS MESSAGES SEED

All clients are connected before the first message is sent; each message has to be answered with a problem, and no
connection may be lost over one. Says when all are connected, and how many were answered.
"""

from __future__ import annotations

import json
import random
import string
import sys
from pathlib import Path

from control_harness import RawClient, wanted

from acode_vllm.control.protocol import MESSAGES, request_line
from acode_vllm.workers.messages.lifecycle_messages import EnsureHealthy

AT_ONCE = 10
"""Messages that a client sends before it reads the answers."""


def malformed(chance: random.Random, good: bytes) -> bytes:
    """A line that is no request: noise, broken JSON, or JSON of the wrong shape."""
    match chance.randrange(5):
        case 0:
            noise = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 200)))
            return b"?" + noise.replace(b"\n", b"?")
        case 1:
            return good[: chance.randrange(1, len(good) - 1)]
        case 2:
            place = chance.randrange(len(good))
            return good[:place] + b"\x00" + good[place:]
        case 3:
            value: object = chance.choice([None, True, -1, 1e300, "x" * 1000, [], {}, [[[]]]])
            name = chance.choice([*MESSAGES, "".join(chance.choices(string.printable, k=8)), None, 7])
            return json.dumps({"id": "one", "do": name, "with": value}).encode()
        case _:
            data = json.loads(good)
            data["with"]["wanted"] = chance.choice([None, 7, [], "x", {"model": []}, {"options": {"port": "x"}}])
            return json.dumps(data).encode()


def fuzz(clients: list[RawClient], count: int, chance: random.Random) -> int:
    """Send so many messages, each client in its turn; returns how many were answered, which must be all."""
    good = request_line(1, EnsureHealthy(wanted(), "t")).rstrip()
    answered = 0
    while answered < count:
        for client in clients:
            some = min(AT_ONCE, count - answered)
            lines = [malformed(chance, good) for _ in range(some)]
            client.send(b"".join(line + b"\n" for line in lines) + b'{"id": 4711, "do": "ping"}\n')
            problems = 0
            while (line := client.line()) is not None and line.get("id") != 4711:
                assert "problem" in line, line
                problems += 1
            assert line is not None, "hung up over a malformed line"
            assert problems == some
            answered += problems
    return answered


def main() -> None:
    path, clients, messages, seed = Path(sys.argv[1]), *map(int, sys.argv[2:])
    connected = [RawClient(path) for _ in range(clients)]
    for client in connected:
        client.hello()
    print("connected", flush=True)
    print(fuzz(connected, messages, random.Random(seed)), flush=True)


if __name__ == "__main__":
    main()
