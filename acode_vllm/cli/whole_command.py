"""Runs any command line: reads its arguments, runs the command, and prints an error as one block."""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence
from types import FrameType

from acode_vllm.cli.arguments import parse
from acode_vllm.cli.screen.terminal import Terminal
from acode_vllm.cli.screen.unexpected import problem_of
from acode_vllm.vocabulary.errors import VllmServiceError

EXIT_FAILURE = 1
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class _Terminated(KeyboardInterrupt):
    """SIGTERM, or the terminal was closed. Handled like Ctrl-C, so that nothing half-started is left behind."""


def run(words: Sequence[str]) -> int:
    """Run the command line ``words``; returns the exit code.

    Raises:
        BrokenPipeError: The reader of the output went away.
    """
    arguments = parse(words)
    terminal = Terminal.of_process(
        quiet=arguments.quiet,
        verbose=arguments.verbose,
        log_format=arguments.log_format,
        no_color=arguments.no_color,
    )
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # not under nohup
        signal.signal(signal.SIGHUP, _terminate)
    try:
        code: int = arguments.run(arguments, terminal)
        return code
    except VllmServiceError as error:
        terminal.show_problem(error.problem)
        return EXIT_FAILURE
    except KeyboardInterrupt as interrupt:
        terminal.say("Interrupted.")
        return EXIT_TERMINATED if isinstance(interrupt, _Terminated) else EXIT_INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        logging.getLogger("acode_vllm").debug("the command failed", exc_info=True)
        terminal.show_problem(problem_of(error))
        return EXIT_FAILURE


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated
