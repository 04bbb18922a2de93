"""The server that every subject watches: the stand-in for vLLM, which tells the bench of its life.

``BENCH_STAMPS`` names a FIFO; a JSON line with the monotonic time is written to it at the first instruction and when
it listens. Without it, nothing is told. ``BENCH_SPREAD`` delays its start by up to so many seconds, at random.
"""

import time

BORN = time.monotonic()

import json  # noqa: E402 - after the clock was read
import os  # noqa: E402
import random  # noqa: E402
import sys  # noqa: E402


def stamp(what: str, at: float) -> None:
    path = os.environ.get("BENCH_STAMPS")
    if path:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        os.write(descriptor, json.dumps({what: at, "pid": os.getpid()}).encode() + b"\n")
        os.close(descriptor)


if __name__ == "__main__":
    stamp("born", BORN)
    time.sleep(random.uniform(0, float(os.environ.get("BENCH_SPREAD", "0"))))
    from acode_vllm.testing import api_server

    tell_ready = api_server.ApiServer._tell_ready
    api_server.ApiServer._tell_ready = lambda self: (stamp("listens", time.monotonic()), tell_ready(self))[1]
    code = api_server.ApiServer().run()
    sys.stdout.flush()
    os._exit(code)
