"""Where the command writes: results to standard output, everything else to standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from acode_vllm.cli.screen.paint import Paint, wants_colour
from acode_vllm.cli.screen.standard_streams import discard
from acode_vllm.vocabulary.errors import Problem, error_for
from acode_vllm.vocabulary.safe_text import harmless


@dataclass(frozen=True)
class Terminal:
    """The streams of one command.

    Attributes:
        out: Results.
        err: Everything else.
        quiet: Print only results and errors.
        verbose: Print the log as well.
        log_format: ``text``, or ``json``: everything on ``err`` is one JSON object a line.
        plain: No colors.
    """

    out: TextIO
    err: TextIO
    quiet: bool = False
    verbose: bool = False
    log_format: str = "text"
    plain: bool = False

    @classmethod
    def of_process(cls, *, quiet: bool, verbose: bool, log_format: str, no_color: bool) -> Terminal:
        """The streams of this process. Sets up its logging, too."""
        from acode_vllm.cli.screen.log_output import set_up_logging

        plain = no_color or not wants_colour(os.environ)
        set_up_logging(sys.stderr, verbose=verbose, log_format=log_format, plain=plain)
        return cls(sys.stdout, sys.stderr, quiet, verbose, log_format, plain)

    @property
    def is_interactive(self) -> bool:
        """Whether standard error is a terminal whose lines can be redrawn."""
        return self.log_format == "text" and self.err.isatty() and os.environ.get("TERM") != "dumb"

    @property
    def paint(self) -> Paint:
        """Colors for standard output."""
        return Paint.of(self.out, plain=self.plain)

    @property
    def err_paint(self) -> Paint:
        """Colors for standard error."""
        return Paint.of(self.err, plain=self.plain)

    def print(self, text: str = "") -> None:
        """Write a line of the result."""
        self.write(text + "\n")

    def write(self, text: str) -> None:
        """Write a part of the result.

        Raises:
            StartError: ACODE-VLM-032: it cannot be written.
            BrokenPipeError: Its reader has gone.
        """
        try:
            self.out.write(text)
            self.out.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            from acode_vllm.cli.screen.unexpected import output_problem

            raise error_for(output_problem(error)) from error

    def answer(self, text: str) -> None:
        """Write a part of a model's answer: on a terminal without what would control it, in a pipe byte for byte."""
        self.write(harmless(text) if self.out.isatty() else text)

    def say(self, text: str, level: str = "INFO", fields: Mapping[str, object] | None = None) -> None:
        """Write a line to standard error, unless quiet.

        Args:
            text: The line.
            level: Its level in a JSON log.
            fields: Further fields of the JSON record; ``message`` replaces the text there.
        """
        if self.quiet:
            return
        if self.log_format == "json":
            self._json(level, {"message": text, **(fields or {})})
        else:
            self._tell(text)

    def warn(self, text: str) -> None:
        """Write a warning to standard error, unless quiet."""
        self.say(text if self.log_format == "json" else f"Warning: {text}", "WARNING")

    def show_problem(self, problem: Problem) -> None:
        """Write an error as one block: code, what happened, what to do, evidence, log."""
        from acode_vllm.cli.screen.problem_text import problem_data, problem_lines

        if self.log_format == "json":
            self._json("ERROR", problem_data(problem))
        else:
            self._tell("\n".join(problem_lines(problem, self.err_paint)))

    def _json(self, level: str, data: dict[str, object]) -> None:
        import json
        import time

        head = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "level": level, "logger": "acode"}
        self._tell(json.dumps({**head, **data}))

    def _tell(self, text: str) -> None:
        self.draw(text + "\n")

    def draw(self, text: str) -> None:
        """Write raw text to standard error. If that fails, there is no one to tell, and the command goes on."""
        try:
            self.err.write(text)
            self.err.flush()
        except BrokenPipeError:
            raise
        except OSError:
            discard(self.err)
