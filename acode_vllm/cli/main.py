"""The entry point of ``acode``. Exit codes: 0; 1 for a failure, with its ACODE-VLM code on standard error; 2 for wrong
usage; 130 for Ctrl-C and 143 for SIGTERM. Only what a command needs is imported.
"""  # noqa: D205 - one sentence

from __future__ import annotations

import sys

from acode_vllm.cli.quick_status import quick_status
from acode_vllm.cli.screen.standard_streams import discard, prepare_streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_FAILURE = 1
DETACHED = ("providers", "supervise", "vllm", "--detached")
"""How `acode_vllm.keeper.detached_keeper` starts a keeper."""
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (this process's where None); returns the exit code."""
    prepare_streams()
    try:
        code = _run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        code = EXIT_INTERRUPTED
    except SystemExit as ended:  # argparse's: help, version, wrong usage
        code = ended.code if isinstance(ended.code, int) else EXIT_FAILURE
    except BrokenPipeError:  # the reader of our output went away, as it may
        discard(sys.stdout)
        code = EXIT_FAILURE
    except OSError as error:  # of the quick status; a whole command has told its own
        code = _failed(error)
    return _flushed(code)


def _run(words: Sequence[str]) -> int:
    if tuple(words[:4]) == DETACHED:
        from acode_vllm.cli.commands.supervise import run_detached

        return run_detached()
    code = quick_status(["providers", *words] if words[:1] == ["status"] else words)
    if code is None:
        from acode_vllm.cli.whole_command import run

        code = run(words)
    return code


def _flushed(code: int) -> int:
    """Write out what is buffered; returns the exit code. What fails here is not tried again when Python exits."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        discard(sys.stdout)
        return EXIT_FAILURE
    except OSError as error:
        discard(sys.stdout)
        return code or _failed(error)
    return code


def _failed(error: OSError) -> int:
    from acode_vllm.cli.screen.unexpected import output_problem

    sys.stderr.write(f"{output_problem(error)}\n")
    return EXIT_FAILURE


if __name__ == "__main__":
    sys.exit(main())
