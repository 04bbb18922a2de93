"""``acode providers supervise vllm``: the keeper, in the foreground under systemd, tmux or a container, or detached."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from acode_vllm.cli.commands.heard_signals import hear_signals
from acode_vllm.cli.screen.log_output import set_up_logging
from acode_vllm.keeper.detached_keeper import BUSY, READY, read_settings, say
from acode_vllm.keeper.keeper import Keeper
from acode_vllm.keeper.keeper_edges import KeeperEdges, KeeperSignal
from acode_vllm.keeper.systemd import Notifier
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.service.tree import vllm_edges
from acode_vllm.vocabulary.errors import Problem, VllmServiceError, error_for
from acode_vllm.vocabulary.redaction import redact
from acode_vllm.vocabulary.states import LifecycleMode
from acode_vllm.vocabulary.wanted import Wanted

if TYPE_CHECKING:
    import argparse

    from acode_vllm.cli.commands.session import Session
    from acode_vllm.cli.screen.terminal import Terminal


_OF_SYSTEMD = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
"""Variables for the keeper alone, which vLLM does not inherit."""


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Run the keeper; returns the exit code."""
    from acode_vllm.cli.commands.session import open_session

    use_one_arena()
    log_format = arguments.log_format
    set_up_logging(sys.stderr, verbose=arguments.verbose, log_format=log_format, plain=terminal.plain, always=True)
    session = open_session(arguments, terminal)
    folder = session.folder
    wanted = _wanted(session)
    _require_managed(wanted)
    edges = KeeperEdges(vllm_edges, Notifier(os.environ), reload=lambda: _wanted(open_session(arguments, terminal)))
    keeper = Keeper(folder, wanted, edges, detached=False)
    has_terminal = sys.stdin is not None and sys.stdin.isatty()

    def reload_or_stop() -> KeeperSignal:
        # SIGHUP also says that the terminal was closed; a keeper on that terminal ends with it.
        return KeeperSignal.STOP if has_terminal and not sys.stdin.isatty() else KeeperSignal.RELOAD

    _hear_signals(keeper, reload_or_stop)
    keeper.run()
    return 0


def run_detached() -> int:
    """Run a keeper with the settings that its parent hands it; returns the exit code.

    Without parser and terminal: it runs for weeks, and everything it loads stays in memory.
    """
    use_one_arena()
    set_up_logging(sys.stderr, verbose=False, log_format="text", plain=True, always=True)
    answer = os.dup(1)  # not inheritable, as every descriptor that Python makes
    try:
        wanted = read_settings(0)
        _let_go_of_caller()
        folder = ServiceFolder.of(wanted.environ, wanted.options.port)
        edges = KeeperEdges(vllm_edges, Notifier({}), owned=lambda: say(answer, READY))
        keeper = Keeper(folder, wanted, edges, detached=True)
        _hear_signals(keeper, lambda: KeeperSignal.RELOAD)
        if not keeper.run():
            say(answer, BUSY)
    except VllmServiceError as error:
        say(answer, error.problem)
        sys.stderr.write(redact(str(error)) + "\n")
        return 1
    finally:
        os.close(answer)
    return 0


def _let_go_of_caller() -> None:
    """Release the pipes and the current folder of the command that started us."""
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)


def _hear_signals(keeper: Keeper, on_hangup: Callable[[], KeeperSignal]) -> None:
    hear_signals(
        {
            signal.SIGTERM: lambda: keeper.tell(KeeperSignal.STOP),
            signal.SIGINT: lambda: keeper.tell(KeeperSignal.STOP),
            signal.SIGHUP: lambda: keeper.tell(on_hangup()),
        }
    )


def _wanted(session: Session) -> Wanted:
    environ = {name: value for name, value in os.environ.items() if name not in _OF_SYSTEMD}
    return Wanted(session.model, session.configuration.options, environ, session.configuration.secrets.api_key)


def _require_managed(wanted: Wanted) -> None:
    mode = wanted.options.mode
    if mode is not LifecycleMode.MANAGED:
        raise error_for(
            Problem(
                "ACODE-VLM-017",
                f"In {mode.value} mode there is nothing to keep: an external manager owns the server.",
                "Use lifecycle mode managed.",
            )
        )


_M_ARENA_MAX = -8
"""Of glibc's ``malloc.h``."""


def use_one_arena() -> None:
    """Have all threads allocate from one arena; without glibc nothing happens.

    By default nearly every thread gets an arena of its own, keeps what it frees there, and is 1.4 MB of a fresh keeper;
    after some hundred crashes and restarts it was 20 MB. Threads of Python wait for each other anyway.
    """
    import ctypes  # loaded by the first look for GPUs, too

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
