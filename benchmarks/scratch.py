"""A service of the bench: folders, model, port and configuration of its own, and what must be ended at the end."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.child import PROGRAMS, Child, Fifo

ACODE = Path(sys.executable).with_name("acode")
SERVER = (sys.executable, str(PROGRAMS / "server.py"))
LIFETIME = 1200
"""Seconds after which a server ends by itself, whatever becomes of the bench: longer than any row."""
_FOREIGN = ("VLLM_", "HF_", "ACODE_", "XDG_", "CUDA_", "HIP_", "ROCR_", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH")


class Scratch:
    """Use as a context; everything is made below ``folder``."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        """Make the folders; nothing runs yet.

        Args:
            folder: Empty, or not there yet.
            settings: Of ``providers.vllm``, beside model, port and command.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.model = write_model(folder / "model")
        self.config = folder / "acode.yml"
        self.stamps = Fifo(folder / "stamps")
        self._stack = ExitStack()
        self.environ = clean_environ() | {
            "HOME": str(folder),
            "XDG_STATE_HOME": str(folder / "state"),
            "BENCH_STAMPS": str(self.stamps.path),
            "STANDIN": json.dumps({"token_seconds": 0.0}),
            "STANDIN_LIFETIME": str(LIFETIME),
        }
        section = {"model": self.model, "port": self.port, "command": list(SERVER), **settings}
        self.config.write_text(json.dumps({"providers": {"vllm": section}}))  # JSON is YAML

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def server_command(self) -> list[str]:
        """The server as a baseline starts it."""
        return [*SERVER, "--model", self.model, "--port", str(self.port)]

    def program(self, name: str, *arguments: str, **options: Any) -> Child:
        """One of the bench's programs, under the interpreter of the bench."""
        return self._stack.enter_context(
            Child([sys.executable, PROGRAMS / f"{name}.py", *arguments], self.environ, **options)
        )

    def orchestrator(self, **options: Any) -> Child:
        """A program that uses the library."""
        settings = {"model": self.model, "port": self.port, "command": SERVER, **options}
        return self.program("orchestrator", json.dumps(settings))

    def acode(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run the command with the configuration file; it must go well."""
        return subprocess.run(
            [str(ACODE), "--config", str(self.config), *arguments],
            env=self.environ | environ,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=True,
        )

    def status(self) -> dict[str, Any]:
        """``acode providers status vllm --json``."""
        found: dict[str, Any] = json.loads(self.acode("providers", "status", "vllm", "--json").stdout)
        return found

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self.acode("providers", "stop", "vllm")
        self.stamps.close()


def clean_environ() -> dict[str, str]:
    """This environment without what would change what is measured."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}


def free_port() -> int:
    """A port that nobody holds."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_model(folder: Path) -> str:
    """A model folder that is complete as far as anybody looks without loading it."""
    folder.mkdir(exist_ok=True)
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
    (folder / "tokenizer.json").write_text("{}")
    return str(folder)
