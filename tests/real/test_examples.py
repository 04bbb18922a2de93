"""Every example of `examples/` on a real vLLM: that of the systemd unit, one of somebody else's, an airgapped one."""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest
from fake_hub import FakeHub
from keepers import NotifySocket, wait_until_gone
from real_service import RealService, RealVllm, settings
from standin import free_port

from acode_vllm import GpuOptions, VllmLifecycleOptions

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
UNIT = ROOT / "docs" / "systemd" / "acode-vllm.service"
HELLO = "acode/tiny-hello"
PROMPT, ANSWER = "write a hello world program", 'print("Hello, world!")'
WAIT = 300.0
KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
"""All that a unit of systemd's user manager has of the caller's environment."""


class Unit:
    """What systemd makes of the sample unit, for a user of its own with a configuration file at home.

    Attributes:
        environ: The environment of this user.
        port: Of the service.
    """

    def __init__(self, home: Path, vllm: RealVllm) -> None:
        self.port = free_port()
        self.home = home
        hf_home = os.environ.get("REAL_HF_HOME", str(ROOT / ".build" / "hf"))
        self.environ = {
            **{name: os.environ[name] for name in KEPT if name in os.environ},
            "HOME": str(home),
            "HF_HOME": hf_home,
            "PYTHONSAFEPATH": "1",
        }
        options = VllmLifecycleOptions(
            port=self.port,
            start_timeout_seconds=300,
            gpu=GpuOptions(memory_utilization=0.2 if vllm.device != "cpu" else 0.9),
            server=vllm.server,
        )
        for folder in (".config/acode", ".local/bin"):
            (home / folder).mkdir(parents=True)
        (home / ".config/acode/config.yml").write_text(json.dumps({"providers": {"vllm": settings(options)}}))
        (home / ".config/acode/secrets.env").write_text("VLLM_API_KEY=a-key-of-the-unit\n")
        (home / ".local/bin/acode").symlink_to(Path(sys.executable).with_name("acode"))
        self._said = configparser.ConfigParser(interpolation=None, strict=False)
        self._said.optionxform = str  # type: ignore[assignment,method-assign]
        self._said.read(UNIT)
        self.notify = NotifySocket(home / "notify")
        self.keeper: int | None = None

    def start(self) -> None:
        """``systemctl --user start acode-vllm``: returns when the service says that it is ready."""
        service = self._said["Service"]
        secrets = Path(service["EnvironmentFile"].removeprefix("-").replace("%h", str(self.home)))
        self.environ |= dict(line.split("=", 1) for line in secrets.read_text().splitlines())
        # By way of a shell that ends, so that the keeper is nobody's child: under systemd it is not ours.
        launcher = ["bash", "-c", '"$@" </dev/null >>journal 2>&1 & echo $!', "-"]
        done = subprocess.run(
            [*launcher, *shlex.split(service["ExecStart"].replace("%h", str(self.home)))],
            cwd=service["WorkingDirectory"].replace("%h", str(self.home)),
            env={**self.environ, "NOTIFY_SOCKET": str(self.notify.path), "ACODE_MODE": "airgapped"},
            stdout=subprocess.PIPE,
            check=True,
        )
        self.keeper = int(done.stdout)
        self.notify.wait_for("READY=1", WAIT)

    def stop(self) -> None:
        """``systemctl --user stop acode-vllm``: with ``KillMode=process`` the keeper alone is ended."""
        assert self._said["Service"]["KillMode"] == "process"
        assert self.keeper is not None
        os.kill(self.keeper, signal.SIGTERM)
        wait_until_gone(self.keeper)
        self.keeper = None

    def run(self, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A program of this user's."""
        done = subprocess.run(
            [str(word) for word in command],
            cwd=self.home,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def example(self, name: str, *arguments: str) -> str:
        """What an example prints."""
        return self.run(sys.executable, EXAMPLES / name, *arguments).stdout

    def status(self) -> dict[str, Any]:
        """``acode providers status vllm --json``."""
        said: dict[str, Any] = json.loads(self.run(self.acode, "providers", "status", "vllm", "--json").stdout)
        return said

    @property
    def acode(self) -> Path:
        """The command."""
        return self.home / ".local/bin/acode"

    def close(self) -> None:
        """End keeper and server; both have to be gone."""
        if self.keeper is not None:
            self.stop()
        pid = self.status()["pid"]
        tree = _tree(pid) if pid else []
        self.run(self.acode, "providers", "stop", "vllm")
        self.notify.__exit__(None, None, None)
        assert _alive(tree) == []


def _alive(tree: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in tree if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def _tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


@pytest.fixture(scope="module")
def unit(
    real_vllm: RealVllm, tiny_models: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Unit]:
    """The unit, started: one server for all examples that need no other."""
    unit = Unit(tmp_path_factory.mktemp("home"), real_vllm)
    try:
        unit.start()
        yield unit
    finally:
        unit.close()


def test_the_blocking_script_has_ten_lines_and_answers(unit: Unit) -> None:
    text = (EXAMPLES / "ask.py").read_text(encoding="utf-8")
    assert len([line for line in text.splitlines() if line.strip()]) <= 10
    assert unit.example("ask.py", PROMPT).strip() == ANSWER


def test_the_openai_client_streams_from_the_managed_server(unit: Unit) -> None:
    assert unit.example("openai_client.py", "who are you?").strip() == f"I am {HELLO}."


def test_a_restart_of_the_unit_keeps_the_server(unit: Unit) -> None:
    before = unit.status()["pid"]
    unit.stop()
    assert psutil.pid_exists(before), "the unit was stopped, and the server serves on"
    unit.start()
    after = unit.status()
    assert (after["state"], after["pid"]) == ("Running", before)
    assert unit.example("ask.py", PROMPT).strip() == ANSWER


def test_the_web_application_answers_many_at_once(unit: Unit) -> None:
    command = [sys.executable, EXAMPLES / "wsgi_app.py", "0"]
    with subprocess.Popen(command, cwd=unit.home, env=unit.environ, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            host, port = server.stdout.readline().strip().removeprefix("http://").split(":")

            def ask(method: str, path: str, body: str | None = None) -> tuple[int, dict[str, Any]]:
                with contextlib.closing(HTTPConnection(host, int(port), timeout=WAIT)) as connection:
                    connection.request(method, path, body)
                    answer = connection.getresponse()
                    return answer.status, json.loads(answer.read())

            with ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(lambda _: ask("POST", "/ask", PROMPT), range(8)))
            assert answers == [(200, {"text": ANSWER})] * 8
            state = {"state": "Running", "model": HELLO, "pid": unit.status()["pid"]}
            assert ask("GET", "/status") == (200, state)
            assert ask("POST", "/ask")[0] == 400
            assert ask("GET", "/")[0] == 404
        finally:
            server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0
    assert unit.status()["state"] == "Running", "the application ended, the server stays"


def test_the_batch_is_answered_whole_and_in_the_order_of_its_file(unit: Unit) -> None:
    prompts = unit.home / "prompts.txt"
    prompts.write_text(f"{PROMPT}\n\nwho are you?\n" * 20)
    done = unit.run(sys.executable, EXAMPLES / "batch.py", prompts)
    assert done.stderr.splitlines()[-1] == "40 of 40 answered"
    pair = [{"prompt": PROMPT, "text": ANSWER}, {"prompt": "who are you?", "text": f"I am {HELLO}."}]
    assert [json.loads(line) for line in done.stdout.splitlines()] == pair * 20


@pytest.fixture
def somebody_elses(real_service: RealService, real_vllm: RealVllm) -> Iterator[subprocess.Popen[bytes]]:
    """A vLLM that nobody of acode's started."""
    server = real_service.options.server
    command = [*real_vllm.module_command, "--model", HELLO, "--port", str(real_service.port), "--max-model-len", "2048"]
    command += [*server.extra_args, *(("--dtype", server.dtype) if server.dtype else ())]
    with (real_service.state_home / "their.log").open("wb") as log:
        process = subprocess.Popen(
            command, env={**real_service.environ, **server.env}, stdout=log, stderr=log, start_new_session=True
        )
    yield process
    for member in _tree(process.pid) if process.poll() is None else ():
        member.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)


def test_monitored_mode_reports_the_end_of_somebody_elses_server_and_starts_none(
    real_service: RealService, somebody_elses: subprocess.Popen[bytes]
) -> None:
    url = f"http://127.0.0.1:{real_service.port}"
    while not _is_healthy(real_service.port):
        assert somebody_elses.poll() is None, (real_service.state_home / "their.log").read_text()[-2000:]
        with contextlib.suppress(subprocess.TimeoutExpired):
            somebody_elses.wait(0.5)
    tree = _tree(somebody_elses.pid)
    command = [sys.executable, EXAMPLES / "monitored.py", url, HELLO]
    with subprocess.Popen(
        command, env=real_service.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as watcher:
        assert watcher.stdout is not None
        while (line := watcher.stdout.readline()) and "serves" not in line:
            pass
        assert line.strip() == f"{url} serves {HELLO}"
        for member in reversed(tree):
            member.terminate()
        while (line := watcher.stdout.readline()) and "Running -> Failed" not in line:
            pass
        assert "Running -> Failed" in line
        watcher.communicate(timeout=60)
    assert watcher.returncode == 0
    psutil.wait_procs(tree, 60)
    assert real_service.processes() == [], "nothing was started in its place"


def _is_healthy(port: int) -> bool:
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False


@pytest.mark.spec("AC-013")
def test_a_model_packed_with_a_network_is_served_without_one(
    real_service: RealService, tiny_models: Mapping[str, Path], tmp_path: Path
) -> None:
    packed = tmp_path / "model.tar"
    script = str(EXAMPLES / "airgapped.sh")
    environ = {name: text for name, text in real_service.environ.items() if name != "HF_HUB_OFFLINE"}
    environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"

    def run(home: str, endpoint: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        place = {"HF_HOME": str(tmp_path / home), "HF_ENDPOINT": endpoint}
        return subprocess.run(
            ["bash", script, *arguments], env={**environ, **place}, capture_output=True, text=True, timeout=WAIT
        )

    hub = FakeHub()
    hub.put_folder("acme/hello", tiny_models[HELLO])
    with hub.serve():
        done = run("online", hub.url, "pack", "acme/hello", str(packed))
        assert done.returncode == 0, done.stderr
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: whoever connects is refused
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        try:
            done = run("offline", endpoint, "serve", "acme/hello", str(packed), PROMPT)
            assert done.returncode == 0, done.stderr
            assert done.stdout.strip() == ANSWER
            refused = run("offline", endpoint, "serve", "acme/other", str(packed), PROMPT)
            assert refused.returncode == 1
            assert "ACODE-VLM-007" in refused.stderr
        finally:
            stop = [sys.executable, "-m", "acode_vllm.cli.main", "providers", "stop", "vllm"]
            subprocess.run(stop, env=environ, check=True, timeout=WAIT, stdout=subprocess.DEVNULL)
