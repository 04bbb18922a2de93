"""What the command says, and where: answers and results to standard output, everything else to standard error."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TextIO

from acode_vllm.errors import Problem


@dataclass(frozen=True)
class Terminal:
    """The streams of one command.

    Attributes:
        out: For what was asked for.
        err: For everything else.
        quiet: Say nothing but results and errors.
        verbose: Show the log, too.
        log_format: ``text`` or ``json``.
    """

    out: TextIO
    err: TextIO
    quiet: bool = False
    verbose: bool = False
    log_format: str = "text"

    @classmethod
    def of_process(cls, *, quiet: bool, verbose: bool, log_format: str) -> Terminal:
        """The streams of this process, with its logging set up for a command."""
        from acode_vllm.cli.log_output import set_up_logging

        set_up_logging(sys.stderr, verbose=verbose, log_format=log_format)
        return cls(sys.stdout, sys.stderr, quiet, verbose, log_format)

    @property
    def is_interactive(self) -> bool:
        """Whether a person sees standard error, so that a line may be drawn over."""
        return self.err.isatty()

    def print(self, text: str = "") -> None:
        """A line of the result."""
        print(text, file=self.out, flush=True)

    def say(self, text: str) -> None:
        """A line beside the result."""
        if not self.quiet:
            print(text, file=self.err, flush=True)

    def show_problem(self, problem: Problem) -> None:
        """An error, in one block: code, what happened, what to do, evidence, log."""
        from acode_vllm.redaction import redact

        print(redact(str(problem)), file=self.err, flush=True)
