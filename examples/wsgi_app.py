"""A web application that embeds the orchestrator; any WSGI server runs it, threads and all.

    python examples/wsgi_app.py 8080
    curl --data "write a hello world program" http://127.0.0.1:8080/ask
    curl http://127.0.0.1:8080/status

`Application` makes its orchestrator once, for all threads: it is thread-safe, and the first request that needs the
server starts it. A server with several worker *processes* needs nothing else: they share one vLLM.
"""

import json
import sys
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIServer, make_server

from acode_vllm import VllmProvider, VllmServiceError, VllmServiceOrchestrator

LONGEST_PROMPT = 100_000
Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]


class Application:
    """POST /ask answers the prompt in its body; GET /status tells how the server is."""

    def __init__(self, vllm: VllmServiceOrchestrator) -> None:
        self._vllm = vllm
        self._provider = VllmProvider(vllm)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """One request, on whatever thread the server runs it."""
        try:
            status, body = self._route(environ)
        except VllmServiceError as error:  # code, cause and remedy are for people; nothing secret is in them
            status, body = "503 Service Unavailable", {"error": error.code, "message": error.problem.message}
        content = json.dumps(body).encode()
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(content)))])
        return [content]

    def close(self) -> None:
        """Let go of the connections; vLLM stays for the next program."""
        self._provider.close()

    def _route(self, environ: Environ) -> tuple[str, dict[str, Any]]:
        match environ["REQUEST_METHOD"], environ["PATH_INFO"]:
            case "POST", "/ask":
                size = int(environ.get("CONTENT_LENGTH") or 0)
                if not 0 < size <= LONGEST_PROMPT:
                    return "400 Bad Request", {"error": f"the body is to be a prompt of 1 to {LONGEST_PROMPT} bytes"}
                prompt = environ["wsgi.input"].read(size).decode("utf-8", "replace")
                answer = self._provider.chat([{"role": "user", "content": prompt}], temperature=0)
                return "200 OK", {"text": answer.text}
            case "GET", "/status":
                status = self._vllm.status()  # asks nobody over the network
                return "200 OK", {"state": status.state.value, "model": status.model, "pid": status.pid}
            case _:
                return "404 Not Found", {"error": "there are POST /ask and GET /status"}


class ThreadingServer(ThreadingMixIn, WSGIServer):
    """A thread for each request, as most WSGI servers have it."""

    daemon_threads = True


def main() -> None:
    """Serve on loopback until Ctrl-C."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    with VllmServiceOrchestrator.from_configuration() as vllm:
        application = Application(vllm)
        with make_server("127.0.0.1", port, application, server_class=ThreadingServer) as server:
            print(f"http://127.0.0.1:{server.server_port}", flush=True)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                application.close()


if __name__ == "__main__":
    main()
