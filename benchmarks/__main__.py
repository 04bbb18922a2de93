"""Runs the bench: every row, or those named; writes the figures to JSON and to docs/benchmarks.md."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from importlib import import_module
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.child import REPOSITORY
from benchmarks.figures import Figure
from benchmarks.report import line_of, write_document, write_json

ROWS = (
    "crash",
    "restart",
    "ready",
    "vouched",
    "live_check",
    "provider",
    "status_command",
    "ask_command",
    "imports",
    "memory",
    "at_rest",
    "gpu",
    "preflight",
    "supervisor",
    "status_load",
    "real_start",
    "warm_start",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--row", action="append", choices=ROWS, help="measure this row alone; may be repeated")
    parser.add_argument("--quick", action="store_true", help="short rather than exact")
    parser.add_argument("--build", type=Path, default=REPOSITORY / ".build", help="where things are built")
    parser.add_argument("--document", type=Path, help="write the tables into this file (a whole run does)")
    options = parser.parse_args()
    rows = options.row or ROWS
    figures: list[Figure] = []
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="acode-bench-") as folder:
        bench = Bench(options.build.resolve(), Path(folder), options.quick)
        for row in rows:
            started = time.monotonic()
            try:
                for figure in import_module(f"benchmarks.{row}").run(bench):
                    figures.append(figure)
                    print(line_of(figure), flush=True)
            except Exception as error:  # noqa: BLE001 - of one row; what the others have measured is kept
                traceback.print_exc()
                figures.append(Figure(row, "this row came to no end", {}, note=f"{type(error).__name__}: {error}"))
            print(f"  ({row}: {time.monotonic() - started:.0f} s)", file=sys.stderr, flush=True)
        seconds = time.monotonic() - begun
        write_json(bench, options.build / "reports" / "bench.json", figures, seconds)
        whole = rows is ROWS and not options.quick
        document = options.document or (REPOSITORY / "docs" / "benchmarks.md" if whole else None)
        if document is not None:
            write_document(bench, document, figures, seconds)
    missed = [figure for figure in figures if figure.verdict == "MISSED"]
    print(f"{len(figures)} figures in {seconds / 60:.1f} min; missed: {len(missed)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
