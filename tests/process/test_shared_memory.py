"""Only shared memory that is provably a tree's own is removed."""

from __future__ import annotations

import math
import os
import signal
import time
import uuid
from pathlib import Path

import pytest

from acode_vllm.workers import process_worker, tree_memory
from acode_vllm.workers.shared_memory import FOLDER, SharedFile, files_used_by, remove_unused

HOLD = """
import mmap
path = {path!r}
descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
os.ftruncate(descriptor, 4096)
memory = mmap.mmap(descriptor, 4096)
os.close(descriptor)
"""


@pytest.fixture
def path():
    path = FOLDER / f"psm_{uuid.uuid4().hex[:12]}"
    yield path
    path.unlink(missing_ok=True)


def hold(path):
    return HOLD.format(path=str(path))


def test_what_a_killed_tree_left_is_removed(run, script, grown, path):
    harness = run(script(hold(path) + "here('root')\nstay()"))
    harness.up()
    grown("root")
    harness.stop_server()  # it ends without cleaning up
    assert harness.down().report.shared_memory_removed == (str(path),)
    assert not path.exists()


def test_what_was_used_by_a_process_that_was_killed_is_removed_with_its_tree(run, script, grown, path, monkeypatch):
    """The engine is killed, the root notices and ends by itself: nobody who used the file is left to tell of it."""
    monkeypatch.setattr(process_worker, "FIRST_LOOK_SECONDS", 0.05)
    harness = run(
        script(f"""
        path = {str(path)!r}
        pid = os.fork()
        if pid == 0:
            import mmap
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            os.ftruncate(descriptor, 4096)
            memory = mmap.mmap(descriptor, 4096)
            here("engine")
            stay()
        here("root")
        os.waitpid(pid, 0)
        """)
    )
    harness.up()
    engine = grown("engine")
    deadline = time.monotonic() + 10
    while not harness.made[0]._memory.used:
        assert time.monotonic() < deadline
        os.sched_yield()
    os.kill(engine.pid, signal.SIGKILL)
    assert harness.down().report.shared_memory_removed == (str(path),)


def test_a_mapped_file_is_seen_and_one_that_is_only_open_too(child, script, grown, path, tmp_path):
    child(*script(hold(path) + "here('root')\nstay()"))
    mapped = grown("root")
    (file,) = files_used_by([mapped.pid])
    assert file == SharedFile(path.name, path.stat().st_dev, path.stat().st_ino)
    child(*script(f"keep = open({str(path)!r})\nhere('other')\nstay()"))
    assert files_used_by([grown("other").pid]) == {file}


def test_a_file_that_another_process_uses_stays(child, script, grown, path):
    holder = child(*script(hold(path) + "here('root')\nstay()"))
    files = files_used_by([grown("root").pid])
    assert remove_unused(files) == ()
    assert path.exists()
    holder.kill()
    holder.wait()
    assert remove_unused(files) == (str(path),)


def test_another_file_of_the_same_name_stays(path):
    path.write_bytes(b"another")
    found = path.stat()
    assert remove_unused([SharedFile(path.name, found.st_dev, found.st_ino + 1)]) == ()
    assert path.exists()


def test_a_file_whose_name_is_not_of_the_kind_stays(path):
    other = path.with_name("database-" + uuid.uuid4().hex)
    other.write_bytes(b"precious")
    try:
        found = other.stat()
        assert remove_unused([SharedFile(other.name, found.st_dev, found.st_ino)]) == ()
        assert other.exists()
    finally:
        other.unlink()


def test_a_link_is_not_followed(path, tmp_path):
    target = tmp_path / "target"
    target.write_text("precious")
    path.symlink_to(target)
    found = os.lstat(path)
    assert remove_unused([SharedFile(path.name, found.st_dev, found.st_ino)]) == ()
    assert target.exists()


def test_a_file_that_is_gone_and_a_process_that_is_gone_are_no_trouble(path):
    assert remove_unused([SharedFile(path.name, 1, 1)]) == ()
    assert files_used_by([2**22 + 1]) == frozenset()
    assert Path(FOLDER).is_dir()


def test_where_no_shared_memory_is_new_the_processes_are_not_looked_at(run, script, grown, monkeypatch):
    there, cheap, whole = set(), [], []
    alive = process_worker.ProcessTree.alive
    monkeypatch.setattr(process_worker, "FIRST_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(process_worker, "LAST_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(tree_memory, "files_there", lambda: cheap.append(None) or frozenset(there))
    monkeypatch.setattr(process_worker.ProcessTree, "alive", lambda tree: whole.append(None) or alive(tree))
    harness = run(script("here('root')\nstay()"))
    harness.up()
    grown("root")
    _until(lambda: len(cheap) > 5)
    assert len(whole) == 1
    there.add(SharedFile("psm_new", 1, 1))
    _until(lambda: len(whole) == 2)
    seen = len(cheap)
    _until(lambda: len(cheap) > seen + 3)
    assert len(whole) == 2


def test_when_a_member_has_ended_the_others_are_looked_at(run, script, grown, monkeypatch):
    whole = []
    alive = process_worker.ProcessTree.alive
    monkeypatch.setattr(process_worker, "FIRST_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(process_worker, "LAST_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(tree_memory, "files_there", frozenset)
    monkeypatch.setattr(process_worker.ProcessTree, "alive", lambda tree: whole.append(found := alive(tree)) or found)
    harness = run(
        script("""
        if os.fork() == 0:
            here("engine")
            stay()
        here("root")
        stay()
        """)
    )
    harness.up()
    engine = grown("engine")
    harness.made[0]._memory._looked_at = -math.inf  # a look that came before it was born did not find it
    _until(lambda: whole and len(whole[-1]) == 2)
    looks = len(whole)
    os.kill(engine.pid, signal.SIGKILL)
    _until(lambda: len(whole) == looks + 1)
    assert len(whole[-1]) == 1


def _until(true):
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        os.sched_yield()
