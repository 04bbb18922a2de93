"""What a server that runs would be started with otherwise: `acode_vllm.workers.lifecycle.settings_changes`."""

from __future__ import annotations

from pathlib import Path

import pytest

from acode_vllm.vocabulary.options import ServerOptions, VllmLifecycleOptions
from acode_vllm.vocabulary.server_process import ProcessIdentity, ServerProcess
from acode_vllm.workers.lifecycle.settings_changes import changes_since_start
from acode_vllm.workers.messages.process_messages import LaunchPlan

COMMAND = ("/bin/vllm", "serve", "a/b", "--host", "127.0.0.1", "--max-model-len", "512", "--enforce-eager")


def changes(*argv: str, env: dict[str, str] | None = None, runs_with: bytes = b"") -> tuple[str, ...]:
    server = ServerProcess(ProcessIdentity(1, 2, "b"), "m", COMMAND, "a/b", "a/b", 8000, "/log", 0, 0.0)
    options = VllmLifecycleOptions(server=ServerOptions(env=env or {}))
    whole = {"PATH": "/bin", **(env or {})}
    plan = LaunchPlan(
        argv or COMMAND, whole, Path("/"), "a/b", "a/b", 8000, "127.0.0.1", Path("/log"), options, adopt=server
    )
    return changes_since_start(server, plan, runs_with)


def test_the_same_command_has_no_changes() -> None:
    assert changes() == ()


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ((*COMMAND[:6], "1024", "--enforce-eager"), "--max-model-len 512 is now 1024"),
        ((*COMMAND[:5], "--max-model-len=1024", "--enforce-eager"), "--max-model-len 512 is now 1024"),
        (COMMAND[:7], "--enforce-eager is gone"),
        ((*COMMAND, "--dtype", "float32"), "--dtype float32 is new"),
        (("/opt/vllm", *COMMAND[1:]), "command /bin/vllm serve a/b is now /opt/vllm serve a/b"),
        ((*COMMAND, "--lora", "x", "--lora", "y"), "--lora x y is new"),
    ],
)
def test_each_difference_is_told(argv: tuple[str, ...], text: str) -> None:
    assert changes(*argv) == (text,)


def test_a_value_that_is_written_otherwise_is_no_difference() -> None:
    assert changes(*COMMAND[:5], "--max-model-len=512", "--enforce-eager") == ()


def test_a_variable_is_named_without_its_value() -> None:
    (told,) = changes(env={"COLOUR": "secret-blue", "SAME": "1"}, runs_with=b"COLOUR=secret-red\0SAME=1\0")
    assert told == "environment COLOUR is another"


def test_of_an_environment_that_cannot_be_read_nothing_is_said() -> None:
    assert changes(env={"COLOUR": "blue"}) == ()


def test_devices_that_are_other_ones_are_told() -> None:
    server_runs = b"CUDA_VISIBLE_DEVICES=0\0"
    assert changes(env={"CUDA_VISIBLE_DEVICES": "1"}, runs_with=server_runs) == (
        "environment CUDA_VISIBLE_DEVICES is another",
    )
