"""A program that uses the library: does what standard input tells it, a JSON object a line, and says what came of it.

Run as a script by `programs.Program`. SIGINT interrupts what it does, as Ctrl-C would.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import Any

from acode_vllm import ServerOptions, VllmLifecycleOptions, VllmServiceOrchestrator
from acode_vllm.service.local_service import LocalService
from acode_vllm.supervisor import ReplyTo
from acode_vllm.vocabulary.errors import VllmServiceError
from acode_vllm.vocabulary.status import ServiceStatus


def main() -> None:
    """Serve standard input until its end."""
    settings = json.loads(sys.argv[1])
    server = ServerOptions(command=tuple(settings.pop("command")), env=settings.pop("env", {}))
    model = settings.pop("model")
    vllm = VllmServiceOrchestrator(model, VllmLifecycleOptions(server=server, **settings))
    events: list[str] = []
    tell_what_is_asked()
    vllm.subscribe(lambda event: events.append(type(event).__name__))
    say({"ready": os.getpid()})
    for line in sys.stdin:
        order = json.loads(line)
        try:
            result = getattr(Doing(vllm, events), order.pop("do"))(**order)
            say({"result": result})
        except VllmServiceError as error:
            say({"error": error.code, "class": type(error).__name__, "message": error.problem.message})
        except KeyboardInterrupt:
            say({"interrupted": True})
    vllm.close()


class Doing:
    """What can be told."""

    def __init__(self, vllm: VllmServiceOrchestrator, events: list[str]) -> None:
        self.vllm = vllm
        self.seen = events

    def ensure_healthy(self, model: str | None = None, timeout: float | None = None) -> dict[str, Any]:
        say({"begun": True})
        return shown(self.vllm.ensure_healthy(model, timeout=timeout))

    def start(self, timeout: float | None = None) -> dict[str, Any]:
        return shown(self.vllm.start(timeout=timeout))

    def restart(self, timeout: float | None = None) -> dict[str, Any]:
        return shown(self.vllm.restart(timeout=timeout))

    def stop(self, timeout: float | None = None) -> str:
        return self.vllm.stop(timeout=timeout).method

    def reset_restarts(self) -> dict[str, Any]:
        return shown(self.vllm.reset_restarts())

    def status(self) -> dict[str, Any]:
        return shown(self.vllm.status())

    def owns(self) -> bool:
        service = self.vllm._service
        return service is not None and getattr(service, "owned", None) is not None

    def events(self) -> list[str]:
        return list(self.seen)

    def ensure_on_a_thread(self) -> dict[str, Any]:
        """All of it on a thread that has ended when this returns, the making of the orchestrator included."""
        answers: list[dict[str, Any]] = []

        def ask() -> None:
            self.vllm.close()
            self.vllm.__init__(self.vllm.model, self.vllm.options)  # type: ignore[misc]
            answers.append(shown(self.vllm.ensure_healthy(timeout=30)))

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        return answers[0]

    def crash(self) -> None:
        """End by an exception that nobody catches."""
        raise RuntimeError("a bug of the host's")

    def exit_at_once(self) -> None:
        """End without any clean-up."""
        os._exit(7)

    def fork_and_linger(self) -> int:
        """Fork a child that does nothing but hold open what it inherited."""
        pid = os.fork()
        if pid == 0:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - as long as it lives
            os.close(1)
            signal.pause()
        return pid

    def fork(self) -> Any:
        """Ask from a forked child."""
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                answer = {"result": shown(self.vllm.ensure_healthy(timeout=30)), "owns": self.owns()}
            except VllmServiceError as error:
                answer = {"error": error.code}
            self.vllm.close()
            os.write(write, json.dumps(answer).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            answer = json.loads(pipe.read())
        os.waitpid(pid, 0)
        return answer


def shown(status: ServiceStatus) -> dict[str, Any]:
    """What a test looks at."""
    return {"state": status.state.value, "pid": status.pid, "model": status.model, "reason": status.reason}


def say(what: dict[str, Any]) -> None:
    """Answer. Any thread."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def tell_what_is_asked() -> None:
    """As the owner, say what clients asked for, once it waits in the mailbox of the worker."""
    send = LocalService.send_request

    def send_and_say(self: LocalService, worker: str, message: object, when_answered: Any) -> ReplyTo:
        request = send(self, worker, message, when_answered)
        say({"asked": type(message).__name__})
        return request

    LocalService.send_request = send_and_say  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
