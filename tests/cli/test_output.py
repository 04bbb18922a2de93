"""Where output cannot go as it is: full disks, closed descriptors, ASCII terminals; no folder and no home."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from terminal_program import TerminalProgram

from acode_vllm.cli.arguments import parse
from acode_vllm.cli.commands.session import open_session
from acode_vllm.cli.screen.terminal import Terminal
from acode_vllm.cli.screen.unexpected import problem_of
from acode_vllm.vocabulary.errors import StartError
from acode_vllm.vocabulary.safe_text import harmless

ACODE = [sys.executable, "-m", "acode_vllm.cli.main"]
WITHOUT_HOME = [
    sys.executable,
    "-c",
    """import os, pwd, sys
def nobody(_uid): raise KeyError("no such user")
pwd.getpwuid = nobody
os.environ.pop("HOME", None)
from acode_vllm.cli.main import main
sys.exit(main())""",
]


def shell(line: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """What `acode` does where a shell redirects its descriptors."""
    command = line.replace("acode", f"{sys.executable} -m acode_vllm.cli.main")
    return subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, env={**os.environ, **environ}, timeout=60, check=False
    )


@pytest.mark.parametrize(
    "command", ["providers status vllm", "providers history vllm", "providers list --json", "config show", "--help"]
)
class TestUnwritable:
    def test_a_full_disk_is_one_error_with_a_code_and_a_remedy(self, command: str) -> None:
        done = shell(f"acode {command} > /dev/full")
        assert done.returncode == 1
        errors = [line for line in done.stderr.splitlines() if not line.startswith(("No configuration", "Read"))]
        assert errors == [
            "ACODE-VLM-032: Standard output cannot be written: No space left on device.",
            "  What to do: Free space there, or send the output elsewhere.",
        ]

    def test_a_closed_output_is_the_same(self, command: str) -> None:
        done = shell(f"acode {command} >&-")
        assert done.returncode == 1
        assert "ACODE-VLM-032: Standard output cannot be written: Bad file descriptor." in done.stderr

    def test_where_errors_cannot_be_written_the_result_still_is(self, command: str) -> None:
        for redirection in ("2>&-", "2>/dev/full"):
            done = shell(f"acode {command} {redirection}")
            assert done.returncode == 0
            assert done.stdout


def test_without_any_descriptor_nothing_is_written_into_a_file_of_ours(own_world: Path) -> None:
    assert shell("acode config init <&- >&- 2>&-").returncode == 1
    written = (own_world / "cwd" / ".agent" / "config.yml").read_text()
    assert "Wrote" not in written


def test_what_an_ascii_terminal_lacks_is_replaced() -> None:
    problem = shell("acode --port 80 --config 'größe…' providers status vllm", PYTHONIOENCODING="ascii")
    assert problem.returncode == 1
    assert "gr??e~" in problem.stderr
    assert "031" not in problem.stderr


def test_a_prompt_that_is_no_utf8_is_read_all_the_same() -> None:
    done = subprocess.run([*ACODE, "--port", "80", "ask"], input=b"\xff\xfe", capture_output=True, check=False)
    assert b"ACODE-VLM-010" in done.stderr


class TestNoFolder:
    @pytest.mark.parametrize(
        "arguments", [("providers", "status", "vllm"), ("providers", "history", "vllm"), ("config", "show")]
    )
    def test_a_current_folder_that_was_deleted_is_not_needed(self, tmp_path: Path, arguments: tuple[str, ...]) -> None:
        gone = tmp_path / "gone"
        gone.mkdir()
        done = subprocess.run(
            [*ACODE, *arguments],
            preexec_fn=lambda: (os.chdir(gone), os.rmdir(gone))[1],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, "ACODE-VLM" in done.stderr) == (0, False)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*WITHOUT_HOME, *arguments], capture_output=True, text=True, check=False)

    def test_a_user_without_a_home_has_state_where_xdg_says(self) -> None:
        done = self.run("providers", "status", "vllm")
        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.parametrize("arguments", [("providers", "status"), ("providers", "status", "--all"), ("ask", "x")])
    def test_without_either_the_error_asks_for_one(
        self, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
    ) -> None:
        monkeypatch.delenv("XDG_STATE_HOME")
        done = self.run(*arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("ACODE-VLM-029: There is no folder for the state")
        assert "Set XDG_STATE_HOME" in done.stderr
        assert not list(Path().iterdir()), "nothing is made in the current folder"


def test_without_proc_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.exists", lambda path: not str(path).startswith("/proc"))
    terminal = Terminal(io.StringIO(), io.StringIO())
    with pytest.raises(StartError, match="ACODE-VLM-032: /proc is missing") as caught:
        open_session(parse(["status"]), terminal)
    assert "mount -t proc" in caught.value.problem.remedy
    assert open_session(parse(["status", "--lifecycle-mode", "external"]), terminal)


class TestUnexpected:
    @pytest.mark.parametrize(
        ("error", "code", "word"),
        [
            (OSError(errno.EMFILE, "Too many open files", "/x"), "ACODE-VLM-032", "ulimit -n"),
            (OSError(errno.ENOSPC, "No space left on device", "/x"), "ACODE-VLM-012", "Free space"),
            (PermissionError(errno.EACCES, "Permission denied", "/x"), "ACODE-VLM-032", "permissions"),
            (RuntimeError("can't start new thread"), "ACODE-VLM-032", "ulimit -u"),
            (MemoryError(), "ACODE-VLM-023", "memory"),
            (KeyError("x"), "ACODE-VLM-031", "report"),
        ],
    )
    def test_what_the_world_refuses_is_no_bug_of_ours(self, error: Exception, code: str, word: str) -> None:
        problem = problem_of(error)
        assert problem.code == code
        assert word in problem.remedy


class TestAnswers:
    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("\x1b]0;owned\x07\x1b[2J", "\\x1b]0;owned\\x07\\x1b[2J"),
            ("\u202eevil\u2066\u200f\x9b2J", "\\u202eevil\\u2066\\u200f\\x9b2J"),
            ("a\tb\nc\r\nd\r", "a\tb\nc\nd"),
            ("over\rwrite", "over\\rwrite"),
            ("Größe\u00a0👩\u200d💻 наука العربية", "Größe\u00a0👩\u200d💻 наука العربية"),
        ],
    )
    def test_to_a_person_they_are_text(self, text: str, shown: str) -> None:
        assert harmless(text) == shown

    def test_a_pipe_gets_every_byte_and_a_terminal_the_text(self) -> None:
        program = (
            "from acode_vllm.cli.screen.terminal import Terminal; import sys;"
            "Terminal(sys.stdout, sys.stderr).answer('\\x1b]0;owned\\x07red\\x1b[31m\\n')"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
        assert done.stdout == b"\x1b]0;owned\x07red\x1b[31m\n"
        with TerminalProgram([sys.executable, "-c", program], dict(os.environ)) as shown:
            assert shown.end() == 0
            assert shown.lines[0] == "\\x1b]0;owned\\x07red\\x1b[31m"
            assert b"\x1b" not in shown.written
