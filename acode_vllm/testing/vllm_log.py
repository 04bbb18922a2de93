"""The stand-in's log: lines as vLLM 0.32 writes them, with their prefixes and in their order."""

from __future__ import annotations

import os
import sys
import time

VERSION = "0.32.0"


def write(text: str) -> None:
    """One line as it is, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _line(process: str, pid: int, place: str, text: str, level: str = "INFO") -> None:
    write(f"({process} pid={pid}) {level} {time.strftime('%m-%d %H:%M:%S')} [{place}] {text}")


def banner(model: str, port: int) -> None:
    """The first sign of life."""
    api = os.getpid()
    _line("APIServer", api, "api_utils.py:347", "")
    _line("APIServer", api, "api_utils.py:347", f" ▄▄ ▄█ █     █     █ ▀▄▀ █  version {VERSION}")
    _line("APIServer", api, "api_utils.py:347", f"  █▄█▀ █     █     █     █  model   {model}")
    _line("APIServer", api, "api_utils.py:286", f"non-default args: {{'port': {port}, 'model': '{model}'}}")
    noise = "Found ulimit of 20000 … This can cause fd limit errors like `OSError: [Errno 24] Too many open files`."
    _line("APIServer", api, "system_utils.py:255", noise, "WARNING")
    _line("APIServer", api, "model.py:733", "Resolved architecture: LlamaForCausalLM")


def engine_lines(model: str, engine: int, worker: int) -> list[tuple[str, int, str, str]]:
    """What the engine and its worker say while they load: process, PID, place and text of each line."""
    return [
        (
            "EngineCore",
            engine,
            "core.py:133",
            f"Initializing a V1 LLM engine (v{VERSION}) with config: model='{model}'",
        ),
        ("Worker", worker, "cpu_model_runner.py:68", f"Starting to load model {model}..."),
        ("", 0, "", "\rLoading safetensors checkpoint shards:   0% Completed | 0/2 [00:00<?, ?it/s]"),
        ("", 0, "", "\rLoading safetensors checkpoint shards:  50% Completed | 1/2 [00:00<00:00,  9.10it/s]"),
        ("", 0, "", "\rLoading safetensors checkpoint shards: 100% Completed | 2/2 [00:00<00:00,  9.10it/s]"),
        ("Worker", worker, "default_loader.py:501", "Loading weights took 0.04 seconds"),
        ("EngineCore", engine, "kv_cache_utils.py:2327", "CPU KV cache size: 524,288 tokens"),
        ("EngineCore", engine, "core.py:402", "init engine (profile, create kv cache, warmup model) took 0.10 s"),
    ]


def engine_line(line: tuple[str, int, str, str]) -> None:
    """Write one of `engine_lines`."""
    process, pid, place, text = line
    if process:
        _line(process, pid, place, text)
    else:
        write(text)


def serving(url: str) -> None:
    """What is written just before and just after it listens."""
    _line("APIServer", os.getpid(), "entry.py:140", f"Starting vLLM server on {url}")
    write(f"INFO:     Started server process [{os.getpid()}]")
    write("INFO:     Waiting for application startup.")
    write("INFO:     Application startup complete.")


def engine_died() -> None:
    """What the API server says of a dead engine."""
    api = os.getpid()
    _line("APIServer", api, "async_llm.py:700", "AsyncLLM output_handler failed.", "ERROR")
    words = "EngineCore encountered an issue. See stack trace (above) for the root cause."
    _line("APIServer", api, "serving.py:500", f"vllm.v1.engine.exceptions.EngineDeadError: {words}", "ERROR")


def shut_down(noise: int) -> None:
    """The end of the log, with the noise that comes after it."""
    for text in ("Shutting down", "Waiting for application shutdown.", "Application shutdown complete."):
        write(f"INFO:     {text}")
    write(f"INFO:     Finished server process [{os.getpid()}]")
    for number in range(noise):
        write(f' - leaked instance 0x{number:012x} of type "triton._C.libtriton.ir.attribute"')
