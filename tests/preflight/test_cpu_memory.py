"""The memory that a vLLM on the CPU sees, on trees of files that look like a kernel's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from acode_vllm.workers.preflight.cpu_memory import held_by, memory

KIB = 1024
CPU = min(os.sched_getaffinity(0))


def write(root: Path, name: str, text: str) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def node(root: Path, number: int, total: int) -> None:
    sizes = {"MemTotal": total, "MemFree": 100, "Active(file)": 20, "Inactive(file)": 3, "SReclaimable": 1, "Dirty": 9}
    lines = "".join(f"Node {number} {name}:  {size} kB\n" for name, size in sizes.items())
    write(root, f"sys/devices/system/node/node{number}/meminfo", lines)
    (root / f"sys/devices/system/cpu/cpu{CPU}").mkdir(parents=True, exist_ok=True)


def test_it_is_counted_as_vllm_counts_it(tmp_path: Path) -> None:
    node(tmp_path, 0, 500)
    assert memory(tmp_path) == (500 * KIB, 124 * KIB)


def test_the_node_of_our_first_cpu_counts(tmp_path: Path) -> None:
    node(tmp_path, 0, 500)
    node(tmp_path, 1, 700)
    (tmp_path / f"sys/devices/system/cpu/cpu{CPU}/node1").mkdir()
    assert memory(tmp_path)[0] == 700 * KIB


def test_a_machine_without_nodes_has_one(tmp_path: Path) -> None:
    write(tmp_path, "proc/meminfo", "MemTotal: 300 kB\nMemFree: 5 kB\nMemAvailable: 200 kB\n")
    assert memory(tmp_path) == (300 * KIB, 200 * KIB)


def test_a_containers_limit_counts_where_it_is_less(tmp_path: Path) -> None:
    node(tmp_path, 0, 500)
    write(tmp_path, "sys/fs/cgroup/memory.max", f"{200 * KIB}\n")
    write(tmp_path, "sys/fs/cgroup/memory.current", f"{150 * KIB}\n")
    assert memory(tmp_path) == (200 * KIB, 50 * KIB)
    write(tmp_path, "sys/fs/cgroup/memory.max", "max\n")
    assert memory(tmp_path) == (500 * KIB, 124 * KIB)
    write(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert memory(tmp_path) == (500 * KIB, 124 * KIB)


def test_this_machine_has_memory_some_of_it_free() -> None:
    total, free = memory()
    assert 0 < free < total


def test_what_processes_hold_is_counted() -> None:
    hold = "x = bytearray(50_000_000); print('there', flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        assert held_by({process.pid}) > 50_000_000
        process.communicate(b"\n", 10)
    assert held_by({process.pid}) == 0
