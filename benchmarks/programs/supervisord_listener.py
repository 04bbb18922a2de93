"""An event listener of supervisord's: of each exit the monotonic time goes into the FIFO ``BENCH_DEATHS``."""

import os
import sys
import time

if __name__ == "__main__":
    deaths = os.open(os.environ["BENCH_DEATHS"], os.O_WRONLY)
    while True:
        sys.stdout.write("READY\n")
        sys.stdout.flush()
        header = sys.stdin.readline()
        at = time.monotonic()
        if not header:
            break
        fields = dict(pair.split(":") for pair in header.split())
        sys.stdin.read(int(fields["len"]))
        os.write(deaths, f"crashed {at}\n".encode())
        sys.stdout.write("RESULT 2\nOK")
        sys.stdout.flush()
