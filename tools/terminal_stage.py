"""A user's machine for `record_terminal`: a home, a vllm command on PATH, models, a configuration, and a terminal."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from tmux_screen import LINES, TmuxScreen

from acode_vllm.testing import free_port, stand_in_command

ROOT = Path(__file__).resolve().parent.parent
RECORDED = ROOT / "tests" / "diagnosis" / "logs"
MODEL = "/models/tiny-hello"


class Stage:
    """One machine, with one service. A context manager that ends whatever was started on it.

    Args:
        build: Where the tiny models are.
        vllm: The real vLLM, as ``make vllm`` wrote it down; None for a stand-in on PATH that is told how to fail.
        faults: The stand-in's, one for each of its starts.
        settings: Of ``providers.vllm``, beside the model.
        environ: Added to the environment.
        lines: Height of the terminal.
    """

    def __init__(
        self,
        build: Path,
        *,
        vllm: Mapping[str, Any] | None = None,
        faults: list[dict[str, Any]] | None = None,
        settings: dict[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        lines: int = LINES,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="acode-"))
        self.home = self.folder / "you"
        self.home.mkdir()
        self.models = self.folder / "models"
        shutil.copytree(build / "models", self.models, ignore=shutil.ignore_patterns("architectures"))
        self.port = free_port()
        bin_folder = self.folder / "bin"
        bin_folder.mkdir()
        self.environ = {
            "HOME": str(self.home),
            "PATH": f"{bin_folder}:{Path(sys.executable).parent}:/usr/bin:/bin",
            "VLLM_PORT": str(self.port),
            "HF_HOME": str(self.home / "hf"),
            "HF_ENDPOINT": "http://127.0.0.1:9",  # nobody there: no hub is asked
            "LANG": "C.UTF-8",
            **(environ or {}),
        }
        self._replaced = {str(ROOT): "/src/acode-vllm", str(self.home): "/home/you", str(self.folder): ""}
        own = {"model": str(self.models / "tiny-hello"), **(settings or {})}
        if vllm is not None:
            own = {"command": vllm["command"], "max_model_len": 2048, "extra_args": ["--enforce-eager"], **own}
            if vllm["device"] == "cpu":
                own |= {"dtype": "float32", "env": {"VLLM_CPU_KVCACHE_SPACE": "1"}}
            self._replaced = {str(Path(str(vllm["python"])).parent.parent): "/opt/vllm", **self._replaced}
        else:
            plan = self.folder / "faults.json"
            plan.write_text(json.dumps(faults or [{}]))
            script = bin_folder / "vllm"
            script.write_text(f'#!/bin/sh\nexec {shlex.join(stand_in_command())} "$@" --standin {plan}\n')
            script.chmod(0o755)
        self.config = self.home / ".config" / "acode" / "config.yml"
        self.config.parent.mkdir(parents=True)
        self.write(own)
        self.screen = TmuxScreen(self.home, self.environ, lines)

    def write(self, settings: dict[str, Any]) -> None:
        """Write the user's configuration."""
        self.config.write_text(yaml.safe_dump({"providers": {"vllm": settings}}, sort_keys=False), encoding="utf-8")

    def acode(self, *arguments: str) -> str:
        """Run the command unseen; its output."""
        done = subprocess.run(
            [Path(sys.executable).with_name("acode"), *arguments],
            env=self.environ, cwd=self.home, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        return done.stdout

    def status(self) -> dict[str, Any]:
        """The status as data."""
        status: dict[str, Any] = json.loads(self.acode("providers", "status", "vllm", "--json"))
        return status

    def shown(self, text: str) -> str:
        """A screen as the page shows it: with the paths and the port of any machine."""
        for path, name in self._replaced.items():
            text = text.replace(path, name)
        text = re.sub(rf"\b{self.port}\b", "8000", text)
        return re.sub(r"\n\$$", "", text)

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *error: object) -> None:
        self.screen.__exit__(*error)
        self.environ = {**self.environ, "ACODE_VLLM_LIFECYCLE_MODE": "managed"}
        self.acode("providers", "stop", "vllm")
        for pid in processes_of(self.home):  # keepers, which would end by themselves, and one that was stopped
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGCONT)
        shutil.rmtree(self.folder, ignore_errors=True)


def recorded(name: str) -> dict[str, Any]:
    """A start that fails as a real vLLM once did: with what it wrote then."""
    lines = (RECORDED / f"{name}.log").read_text(encoding="utf-8").splitlines()
    return {"fail_lines": lines, "fail_code": 1}


def processes_of(home: Path) -> list[int]:
    """The processes whose environment says that this is their home."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environ = (entry / "environ").read_bytes()
            except OSError:
                continue
            if f"HOME={home}".encode() in environ.split(b"\0") and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found
