"""What a soak plays with: one service on the stand-in server, its keeper, its clients, and a look at all of them."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from keepers import Acode
from service_fixtures import write_model
from soak_report import Life, Measure
from standin import COMMAND, free_port

from acode_vllm.records.recorded import RecordedService, recorded_service
from acode_vllm.vocabulary.history import History
from acode_vllm.vocabulary.server_process import ServerProcess
from acode_vllm.vocabulary.states import ServiceState
from acode_vllm.workers.machine.shared_memory import files_used_by
from acode_vllm.workers.messages.process_messages import SharedFile

PROGRAM = Path(__file__).with_name("soak_program.py")
NORMAL: dict[str, Any] = {"shm": True, "workers": 2, "strays": 1, "token_seconds": 0.002, "exit_delay": 0.5}
"""The stand-in without a fault: two workers, a process in a session of its own, shared memory."""
LONGEST_LIFE = 24 * 3600
END_SECONDS = 60.0
"""How long a program may take to end in order."""


class Program:
    """A keeper or a client, run beside this process."""

    def __init__(self, *arguments: str, environ: dict[str, str]) -> None:
        self.name = arguments[0]
        self.outcomes: Counter[str] = Counter()
        """Of a client's requests."""
        self.blocks: int | None = None
        """Of memory that its objects take, as it last said."""
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by forget()
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), *arguments],
            stdin=subprocess.PIPE if self.name == "client" else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env={**os.environ, **environ},
        )
        self.pid = self.process.pid
        self._reader = threading.Thread(target=self._listen)
        self._reader.start()

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def tell(self, order: str) -> None:
        """Give a client an order."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(order + "\n")
            self.process.stdin.flush()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> str:
        """End it in order: a client at the end of its input, a keeper by SIGTERM.

        Returns:
            What its threads did where it did not end, and had to be killed; nothing where it did.
        """
        self.send(signal.SIGCONT)
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()
        else:
            self.process.terminate()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGUSR2)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(2.0)
            self.process.kill()
            size = os.fstat(self._said.fileno()).st_size
            return f"{self.name} did not end: " + os.pread(self._said.fileno(), 20_000, max(0, size - 20_000)).decode()
        return ""

    def forget(self) -> None:
        """It has ended: let go of what is left of it."""
        self.process.wait()
        self._said.close()
        self._reader.join()
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with suppress(ValueError):  # a line that its death has cut
                told = json.loads(line)
                self.outcomes.update(told.get("outcomes", {}))
                self.blocks = told.get("blocks", self.blocks)


class World:
    """One service with its keeper and its clients. Everything is under ``folder``.

    Args:
        folder: Empty.
        clients: How many; the first is never killed.
        settle_seconds: How old a program must be before what it holds is compared.
    """

    def __init__(self, folder: Path, clients: int, settle_seconds: float) -> None:
        self._take_home(folder)
        self.acode = Acode(folder, write_model(folder / "model"), free_port())
        self.faults = folder / "faults.json"
        self.change_starts(NORMAL)
        self.acode.write(
            command=[*COMMAND, "--standin", str(self.faults)],
            lifecycle={
                "health_check_interval_seconds": 2.0,
                "engine_check_timeout_seconds": 2.0,
                "max_restarts_per_minute": 5,
                "stop_timeout_seconds": 3.0,
            },
        )
        self._all_clients: list[Program] = []
        self.lives: dict[tuple[int, str], Life] = {}
        self.shared: dict[SharedFile, list[float]] = {}
        self.refused_by_the_limit = 0
        self.history_entries = 0
        self.history_lost: list[str] = []
        self.stuck: list[str] = []
        self._settle = settle_seconds
        self.keeper = self._make_keeper()
        self.clients = [self._make_client(number) for number in range(clients)]

    def _take_home(self, folder: Path) -> None:
        for name in list(os.environ):
            if name.startswith(("VLLM_", "HF_", "ACODE_", "XDG_")):
                del os.environ[name]
        for variable in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
            (folder / variable.lower()).mkdir()
            os.environ[variable] = str(folder / variable.lower())
        places = [str(PROGRAM.parent), *filter(os.path.isabs, sys.path)]
        os.environ |= {"PYTHONPATH": os.pathsep.join(places), "STANDIN_LIFETIME": str(LONGEST_LIFE)}

    def _make_keeper(self) -> Program:
        return Program("keeper", environ=self.acode.environ)

    def _make_client(self, seed: int) -> Program:
        client = Program("client", str(seed), environ=self.acode.environ)
        self._all_clients.append(client)
        return client

    # What is done to it

    def change_starts(self, *starts: dict[str, Any]) -> None:
        """Have the next starts of the stand-in be these; the last one stays."""
        part = self.faults.with_suffix(".part")
        part.write_text(json.dumps([{**NORMAL, **start} for start in starts]))
        Path(f"{self.faults}.starts").unlink(missing_ok=True)
        part.replace(self.faults)

    def ask_server(self, path: str, body: dict[str, Any], seconds: float = 2.0) -> bool:
        """Send the server a request past everything; whether it answered 200."""
        connection = http.client.HTTPConnection("127.0.0.1", self.acode.port, timeout=seconds)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def tend(self) -> None:
        """Do what systemd and an operator would: start anew what has ended, and what the restart limit holds down."""
        if not self.keeper.runs:
            self.keeper.forget()
            self.keeper = self._make_keeper()
        for number, client in enumerate(self.clients):
            if not client.runs:
                client.forget()
                self.clients[number] = self._make_client(os.getpid() + client.pid)
        seen = self.look()
        if seen is not None and seen.status.limit_reached and seen.status.state is ServiceState.FAILED:
            self.refused_by_the_limit += 1
            self.acode.run("providers", "start", "vllm")

    # What is seen of it

    def look(self) -> RecordedService | None:
        """The service as its record and the kernel tell."""
        return recorded_service(self.acode.folder)

    def running(self) -> ServerProcess | None:
        """The server, where it runs, is watched, and answers a request."""
        seen = self.look()
        if seen is None or seen.owner_pid is None or seen.status.state is not ServiceState.RUNNING:
            return None
        body = {"model": seen.status.served_name, "prompt": "hello", "max_tokens": 1}
        return seen.status.server if self.ask_server("/v1/completions", body) else None

    def owner(self) -> Program | None:
        """Which of the programs owns the service."""
        seen = self.look()
        programs = [self.keeper, *self.clients]
        return next((one for one in programs if seen is not None and one.pid == seen.owner_pid), None)

    def tree(self) -> list[psutil.Process]:
        """The server's processes, its API server first; none where there is none."""
        seen = self.look()
        try:
            assert seen is not None
            root = psutil.Process(seen.status.pid or 0)
            return [root, *root.children(recursive=True)]
        except (psutil.Error, AssertionError):
            return []

    def measure(self, now: float) -> None:
        """Note what each program holds, and the shared memory that the server uses."""
        owner = self.owner()
        for program in (self.keeper, *self.clients):
            role = self._role(program, owner)
            life = self.lives.setdefault((program.pid, role), Life(role, now))
            measure = Measure.of(program.pid)
            if measure is not None and now - life.since >= self._settle:
                life.note(now, measure, program.blocks)
        for file in files_used_by(process.pid for process in self.tree()):
            self.shared.setdefault(file, [now, now])[1] = now

    def _role(self, program: Program, owner: Program | None) -> str:
        """What it is just now. Whoever has owned the service has loaded all that this takes, and keeps that."""
        owning = f"{program.name}, owner"
        if program is owner:
            return owning
        return f"{program.name}, owner before" if (program.pid, owning) in self.lives else program.name

    def check_history(self) -> None:
        """The history only ever grows."""
        entries = len(History(self.acode.folder.history).read())
        if entries < self.history_entries:
            self.history_lost.append(f"{self.history_entries - entries} entries")
        self.history_entries = entries

    def outcomes(self) -> Counter[str]:
        """What came of all requests so far."""
        return sum((client.outcomes for client in self._all_clients), Counter())

    # Its end

    def clear_shared_memory(self) -> None:
        """Remove what servers have left that were killed before anybody could see whose it was."""
        log = self.acode.folder.log.read_text(encoding="utf-8", errors="replace")
        for name in re.findall(r"^shared memory (/dev/shm/psm_\w+)$", log, re.MULTILINE):
            Path(name).unlink(missing_ok=True)

    def close(self) -> None:
        """End the clients, the server and the keeper, in order."""
        for client in self.clients:
            self.end(client)
            client.forget()
        self.acode.run("providers", "stop", "vllm")
        self.end(self.keeper)
        self.keeper.forget()

    def end(self, program: Program) -> None:
        """End it in order; one that does not end is told of in the summary."""
        stuck = program.end()
        self.stuck += [stuck] if stuck else []
