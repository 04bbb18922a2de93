"""A small world for the loader: a home, a repository and an environment that nothing outside leaks into."""

from __future__ import annotations

import io
from argparse import ArgumentParser
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from acode_vllm.cli.commands.config_command import Place, add_parser, run_at
from acode_vllm.cli.screen.terminal import Terminal
from acode_vllm.config.config import load
from acode_vllm.config.configuration import Configuration
from acode_vllm.vocabulary.errors import ConfigurationError


@dataclass
class World:
    home: Path
    repository: Path
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def project_file(self) -> Path:
        return self.repository / ".agent" / "config.yml"

    @property
    def user_file(self) -> Path:
        return self.home / ".config" / "acode" / "config.yml"

    def project(self, text: str) -> Path:
        return _write(self.project_file, text)

    def user(self, text: str) -> Path:
        return _write(self.user_file, text)

    def load(self, **flags: object) -> Configuration:
        return load(flags, environ=self.environ, cwd=self.repository, home=self.home)

    def load_from(self, cwd: Path) -> Configuration:
        return load(environ=self.environ, cwd=cwd, home=self.home)

    def mistakes(self, **flags: object) -> tuple[str, ...]:
        """The evidence of the error that loading ends with."""
        with pytest.raises(ConfigurationError) as caught:
            self.load(**flags)
        assert caught.value.code == "ACODE-VLM-010"
        return caught.value.problem.evidence

    def untrusted(self, **flags: object) -> tuple[str, ...]:
        with pytest.raises(ConfigurationError) as caught:
            self.load(**flags)
        assert caught.value.code == "ACODE-VLM-024"
        return caught.value.problem.evidence

    def command(self, *argv: str) -> tuple[int, str, str]:
        """Runs `acode config …`: exit code, standard output, standard error."""
        shared = ArgumentParser(add_help=False)
        for flag in ("--config", "--mode", "--lifecycle-mode", "--port"):
            shared.add_argument(flag)
        parser = ArgumentParser(prog="acode")
        add_parser(parser.add_subparsers(), shared)
        out, err = io.StringIO(), io.StringIO()
        place = Place(self.environ, self.repository, self.home)
        code = run_at(place, parser.parse_args(["config", *argv]), Terminal(out, err))
        return code, out.getvalue(), err.getvalue()


def section(text: str) -> str:
    """A file with these lines below `providers.vllm`."""
    return "providers:\n  vllm:\n" + "".join(f"    {line}\n" for line in text.splitlines())


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def world(tmp_path: Path) -> World:
    home, repository = tmp_path / "own" / "home", tmp_path / "own" / "repository"
    (repository / ".git").mkdir(parents=True)
    home.mkdir()
    return World(home, repository)
