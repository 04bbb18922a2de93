"""What is said where the log names no cause: signals, the kernel, and what vLLM itself said."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.server_process import LogPlace, OomCount
from acode_vllm.workers.diagnosis.diagnosis import diagnose, explain_unhealthy
from acode_vllm.workers.diagnosis.oom_evidence import count_kills, kernel_words
from acode_vllm.workers.messages.process_messages import ProcessExit

HEAD = (
    "(APIServer pid=100) INFO 11-22 12:30:11 [api_utils.py:286] non-default args: {}\n"
    "(EngineCore pid=200) INFO 11-22 12:30:35 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config\n"
)
DIED = (
    "(EngineCore pid=200) ERROR 11-22 12:46:39 [multiproc_executor.py:315] Worker proc VllmWorker-0"
    " died unexpectedly{}, shutting down executor.\n"
)
NOISE = "nanobind: leaked 4 instances!\n - leaked instance\nresource_tracker: There appear to be 2 leaked objects\n"


def ended(folder: Path, text: str, how: ProcessExit, said: str = "", model: str = "acode/m") -> Problem:
    log = folder / "vllm.log"
    log.write_text(HEAD + text + NOISE)

    def kernel(pids: Collection[int], before: OomCount | None) -> str:
        assert set(pids) >= {100, 200}
        return said

    return diagnose(log, LogPlace(), how, model=model, port=8000, kernel=kernel)


@pytest.mark.parametrize(
    ("number", "name", "words"),
    [
        (4, "SIGILL", "this CPU does not have"),
        (11, "SIGSEGV", "not its own"),
        (7, "SIGBUS", "/dev/shm"),
        (6, "SIGABRT", "aborted"),
        (9, "SIGKILL", "which acode did not send"),
        (15, "SIGTERM", "something other than acode"),
        (63, "signal 63", "ended by"),
    ],
)
def test_an_end_by_a_signal_is_named(tmp_path: Path, number: int, name: str, words: str) -> None:
    problem = ended(tmp_path, "", ProcessExit(signal=number))
    assert problem.code == "ACODE-VLM-015"
    assert name in problem.message
    assert words in problem.message


def test_a_sigkill_with_the_kernels_word_for_it_is_want_of_memory(tmp_path: Path) -> None:
    said = "Out of memory: Killed process 200 (VLLM::EngineCor) total-vm:31GB"
    problem = ended(tmp_path, "", ProcessExit(signal=9), said)
    assert problem.code == "ACODE-VLM-023"
    assert problem.evidence[0] == said


def test_a_part_of_the_tree_that_was_killed_for_memory_is_named(tmp_path: Path) -> None:
    line = DIED.format("")
    problem = ended(tmp_path, line, ProcessExit(code=0), "Memory cgroup out of memory: Killed process 200")
    assert problem.code == "ACODE-VLM-023"
    assert "VllmWorker-0" in problem.message


def test_a_worker_that_died_by_a_signal_is_named_with_it(tmp_path: Path) -> None:
    line = DIED.format(" (exit code: -4)")
    problem = ended(tmp_path, line, ProcessExit(code=0))
    assert "VllmWorker-0 used an instruction that this CPU does not have (SIGILL)" in problem.message
    assert "float32" in problem.remedy


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("Fatal Python error: Segmentation fault", "SIGSEGV"),
        ("Fatal Python error: Illegal instruction", "SIGILL"),
        ("!!!!!!! Segfault encountered !!!!!!!", "SIGSEGV"),
    ],
)
def test_a_fatal_signal_that_python_reported_is_named(tmp_path: Path, line: str, name: str) -> None:
    assert name in ended(tmp_path, line + "\n", ProcessExit(code=1)).message


def test_a_specific_cause_comes_before_the_signal(tmp_path: Path) -> None:
    line = "RuntimeError: No CUDA GPUs are available\n"
    assert ended(tmp_path, line, ProcessExit(signal=6)).code == "ACODE-VLM-001"


def test_of_an_end_that_no_rule_knows_vllms_own_words_are_told(tmp_path: Path) -> None:
    text = (
        "Traceback (most recent call last):\n"
        '  File "/x/y.py", line 3, in z\n'
        '    raise StrangeError("first")\n'
        "strange.StrangeError: the first thing\n"
        "(EngineCore pid=200) ERROR 11-22 12:46:39 [core.py:1] EngineCore failed to start.\n"
        "strange.StrangeError: the last thing\n"
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n"
    )
    problem = ended(tmp_path, text, ProcessExit(code=1))
    assert problem.code == "ACODE-VLM-015"
    assert problem.message == (
        "vLLM ended before it served (exit code 1). It said: strange.StrangeError: the first thing"
    )
    assert problem.evidence == ("strange.StrangeError: the first thing", "strange.StrangeError: the last thing")
    assert problem.log_path == str(tmp_path / "vllm.log")


def test_without_any_telling_line_the_last_ones_are_shown_and_no_noise(tmp_path: Path) -> None:
    problem = ended(tmp_path, "going on\nsomething ends\n", ProcessExit(code=1))
    assert problem.evidence[-1] == "something ends"
    assert not any("leaked" in line for line in problem.evidence)


def test_a_kill_from_outside_is_proved_by_the_exit_and_not_by_what_the_others_wrote_as_they_were_ended(
    tmp_path: Path,
) -> None:
    text = (
        'INFO:     127.0.0.1:4 - "GET /health HTTP/1.1" 200 OK\n'
        "(EngineCore pid=200) INFO 11-25 15:09:10 [core.py:1] [shutdown] EngineCore: begin\n"
        "(Worker pid=300) INFO 11-25 15:45:49 [x.py:843] Parent process exited, terminating worker queues\n"
        "(EngineCore pid=200) INFO 11-25 15:09:10 [multiproc_executor.py:486] [shutdown] Executor: all workers exited\n"
    )
    problem = ended(tmp_path, text, ProcessExit(signal=9))
    assert problem.evidence == (
        "its API server was ended by SIGKILL, says the kernel",
        'the last line of its log: INFO:     127.0.0.1:4 - "GET /health HTTP/1.1" 200 OK',
    )


class TestWhileItLives:
    CHECKS = Problem("ACODE-VLM-018", "Server not healthy.", evidence=("health: status 503",))

    def explained(self, folder: Path, text: str) -> Problem:
        log = folder / "vllm.log"
        log.write_text(HEAD + "INFO:     Application startup complete.\n" + text)
        return explain_unhealthy(
            self.CHECKS, log, LogPlace(), model="acode/m", port=8000, kernel=lambda pids, before: ""
        )

    def test_a_death_in_the_tree_explains_why_the_checks_fail_and_can_be_mended(self, tmp_path: Path) -> None:
        problem = self.explained(tmp_path, DIED.format(" (exit code: -11)"))
        assert "its process VllmWorker-0 accessed memory" in problem.message
        assert problem.evidence[-1] == "health: status 503"
        assert problem.retryable

    def test_a_cause_explains_it_and_can_be_mended_since_it_has_served(self, tmp_path: Path) -> None:
        problem = self.explained(tmp_path, "torch.OutOfMemoryError: CUDA out of memory.\n")
        assert problem.code == "ACODE-VLM-006"
        assert problem.retryable

    @pytest.mark.parametrize("text", ["", "StrangeError: something\n"])
    def test_where_the_log_knows_no_better_the_checks_are_what_is_told(self, tmp_path: Path, text: str) -> None:
        assert self.explained(tmp_path, text) == self.CHECKS


def test_secrets_in_the_log_are_not_shown(tmp_path: Path) -> None:
    token = "hf_" + "q" * 34
    problem = ended(tmp_path, f"OddError: request with Bearer {token} failed\n", ProcessExit(code=1))
    assert problem.evidence
    assert token not in str(problem)
    problem = ended(tmp_path, f"ImportError: libx.so: cannot open shared object file {token}\n", ProcessExit(code=1))
    assert problem.code == "ACODE-VLM-009"
    assert token not in str(problem)


class TestKernelWords:
    """Told by the kernel's log, if it can be read and its PIDs are ours; otherwise by the count since the spawn."""

    def group(self, folder: Path, kills: int, file: str = "memory.events") -> OomCount | None:
        """A control group of this process that counts so many kills; what is counted."""
        version_1 = file == "memory.oom_control"
        (folder / "cgroup").write_text("4:memory:/a\n0::/\n" if version_1 else "0::/a\n")
        place = folder / "fs" / ("memory/a" if version_1 else "a") / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"oom_kill_disable 0\noom_kill {kills}\n")
        return count_kills(folder / "cgroup", folder / "fs")

    def namespace(self, folder: Path, inode: int) -> Path:
        link = folder / f"pid-{inode}"
        link.symlink_to(f"pid:[{inode}]")
        return link

    def test_the_kernels_log_names_the_process(self, tmp_path: Path) -> None:
        kmsg = tmp_path / "kmsg"
        kmsg.write_text(
            "3,1,1,-;Out of memory: Killed process 77 (other) total-vm:1kB\n"
            "3,2,2,-;Out of memory: Killed process 200 (VLLM::EngineCor) total-vm:99kB, UID:0\n"
        )
        assert "Killed process 200" in kernel_words({200}, None, kmsg)
        assert kernel_words({4}, None, kmsg) == ""

    @pytest.mark.parametrize("file", ["memory.events", "memory.oom_control"])
    def test_kills_before_the_server_was_started_are_not_its_own(self, tmp_path: Path, file: str) -> None:
        before = self.group(tmp_path, 2, file)
        assert before is not None
        assert before.kills == 2
        unreadable = tmp_path / "none"
        assert kernel_words({200}, before, unreadable) == ""
        self.group(tmp_path, 3, file)
        said = kernel_words({200}, before, unreadable)
        assert said == f"{before.file}: oom_kill 3, and 2 when the server was started"
        assert kernel_words({200}, None, unreadable) == ""

    def test_where_the_kernels_log_can_be_read_it_decides(self, tmp_path: Path) -> None:
        before = self.group(tmp_path, 0)
        self.group(tmp_path, 1)
        kmsg = tmp_path / "kmsg"
        kmsg.write_text("3,1,1,-;Out of memory: Killed process 77 (other) total-vm:1kB\n")
        assert kernel_words({200}, before, kmsg, self.namespace(tmp_path, 4026531836)) == ""
        # In a container the kernel names another PID than we know.
        assert "oom_kill 1" in kernel_words({200}, before, kmsg, self.namespace(tmp_path, 4026532000))

    def test_a_control_group_that_is_gone_or_unreadable_tells_nothing(self, tmp_path: Path) -> None:
        before = self.group(tmp_path, 0)
        assert before is not None
        Path(before.file).write_text("nonsense\n")
        assert kernel_words({200}, before, tmp_path / "none") == ""
        assert count_kills(tmp_path / "nowhere", tmp_path / "fs") is None

    def test_the_real_kernel_is_asked_without_harm(self) -> None:
        assert isinstance(kernel_words({2**31 - 1}, count_kills()), str)

    def test_a_crash_after_an_earlier_kill_in_the_group_is_not_want_of_memory(self, tmp_path: Path) -> None:
        before = self.group(tmp_path, 1)
        log = tmp_path / "vllm.log"
        log.write_text(HEAD + DIED.format(" "))
        problem = diagnose(log, LogPlace(), ProcessExit(code=0), model="acode/m", port=8000, oom_count=before)
        assert problem.code == "ACODE-VLM-015"
