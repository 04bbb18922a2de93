"""Watch a vLLM that somebody else keeps (systemd, Kubernetes, a colleague), and say what happens to it.

    python examples/monitored.py http://127.0.0.1:8000 org/model-name

Monitored mode checks and reports; it never starts, restarts or stops. Ends at Ctrl-C, or when standard input closes.
"""

import sys
from datetime import datetime

from acode_vllm import (
    Event,
    LifecycleMode,
    ProblemRaised,
    StateChanged,
    VllmLifecycleOptions,
    VllmServiceError,
    VllmServiceOrchestrator,
)


def show(event: Event) -> None:
    """Called on the subscription's own thread, for every event; two kinds are of interest here."""
    if isinstance(event, StateChanged):
        when = datetime.fromtimestamp(event.at).strftime("%H:%M:%S")
        print(f"{when} {event.old.value} -> {event.new.value}: {event.reason}", flush=True)
    elif isinstance(event, ProblemRaised):
        print(event.problem, flush=True)


def main() -> int:
    """0 where it was found healthy at first."""
    url, model = sys.argv[1:3]
    options = VllmLifecycleOptions(mode=LifecycleMode.MONITORED, base_url=url, health_check_interval_seconds=2)
    with VllmServiceOrchestrator(model, options) as vllm:
        vllm.subscribe(show)
        try:
            status = vllm.ensure_healthy(timeout=30)
        except VllmServiceError as error:  # its remedy is its manager's affair, and says how to look
            print(error, file=sys.stderr)
            return 1
        print(f"{status.url} serves {status.model}", flush=True)
        try:
            sys.stdin.read()
        except KeyboardInterrupt:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
