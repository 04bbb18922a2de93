"""The entry point of ``acode``. Exit codes: 0; 1 for a failure, with its ACODE-VLM code on standard error; 2 for wrong
usage; 130 for Ctrl-C and 143 for SIGTERM. Only what a command needs is imported.
"""  # noqa: D205 - one sentence

from __future__ import annotations

import os
import sys

from acode_vllm.cli.commands.quick_status import quick_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_FAILURE = 1
DETACHED = ("providers", "supervise", "vllm", "--detached")
"""How `acode_vllm.keeper.detached_keeper` starts a keeper."""
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (this process's where None); returns the exit code."""
    words = sys.argv[1:] if argv is None else argv
    try:
        if tuple(words[:4]) == DETACHED:
            from acode_vllm.cli.commands.supervise import run_detached

            return run_detached()
        code = quick_status(words)
        if code is None:
            from acode_vllm.cli.whole_command import run

            code = run(words)
        return code
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away, which is its right; nothing more is written to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE


if __name__ == "__main__":
    sys.exit(main())
