"""What the command says, and where: answers and results to standard output, everything else to standard error."""

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
        out: For what was asked for.
        err: For everything else.
        quiet: Say nothing but results and errors.
        verbose: Show the log, too.
        log_format: ``text``, or ``json``: then whatever goes to ``err`` is one JSON object a line.
        plain: No colours.
    """

    out: TextIO
    err: TextIO
    quiet: bool = False
    verbose: bool = False
    log_format: str = "text"
    plain: bool = False

    @classmethod
    def of_process(cls, *, quiet: bool, verbose: bool, log_format: str, no_color: bool) -> Terminal:
        """The streams of this process, with its logging set up for a command."""
        from acode_vllm.cli.screen.log_output import set_up_logging

        plain = no_color or not wants_colour(os.environ)
        set_up_logging(sys.stderr, verbose=verbose, log_format=log_format, plain=plain)
        return cls(sys.stdout, sys.stderr, quiet, verbose, log_format, plain)

    @property
    def is_interactive(self) -> bool:
        """Whether a person sees standard error, so that a line may be drawn over."""
        return self.log_format == "text" and self.err.isatty() and os.environ.get("TERM") != "dumb"

    @property
    def paint(self) -> Paint:
        """Colours for standard output."""
        return Paint.of(self.out, plain=self.plain)

    @property
    def err_paint(self) -> Paint:
        """Colours for standard error."""
        return Paint.of(self.err, plain=self.plain)

    def print(self, text: str = "") -> None:
        """A line of the result."""
        self.write(text + "\n")

    def write(self, text: str) -> None:
        """A part of the result.

        Raises:
            StartError: ACODE-VLM-032: it cannot be written.
            BrokenPipeError: Nobody reads it any more.
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
        """A part of a model's answer: text to a person, with no power over the terminal; to a program every byte."""
        self.write(harmless(text) if self.out.isatty() else text)

    def say(self, text: str, level: str = "INFO", fields: Mapping[str, object] | None = None) -> None:
        """A line beside the result.

        Args:
            text: The line.
            level: What it weighs among log records.
            fields: What the record holds besides, or instead: its ``message`` may be another one.
        """
        if self.quiet:
            return
        if self.log_format == "json":
            self._json(level, {"message": text, **(fields or {})})
        else:
            self._tell(text)

    def warn(self, text: str) -> None:
        """A warning beside the result."""
        self.say(text if self.log_format == "json" else f"Warning: {text}", "WARNING")

    def show_problem(self, problem: Problem) -> None:
        """An error, in one block: code, what happened, what to do, evidence, log."""
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
        """Write to standard error as it is. Where that cannot be written, nobody can be told, and the work goes on."""
        try:
            self.err.write(text)
            self.err.flush()
        except BrokenPipeError:
            raise
        except OSError:
            discard(self.err)
