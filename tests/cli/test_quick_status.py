"""The short way of ``acode providers status vllm``: what takes it, and that it says what the whole command says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from keepers import Acode
from service_fixtures import model, port
from standin import free_port

from acode_vllm.cli import plain_words, quick_status
from acode_vllm.cli.arguments import build_parser
from acode_vllm.config.cached_configuration import load_known
from acode_vllm.config.config import load
from acode_vllm.config.settings_cache import ENVIRONMENT, MOST_ENTRIES, digest_of, recall, remember
from acode_vllm.report.status_document import status_document
from acode_vllm.report.status_report import Ages, StatusReport
from acode_vllm.settings.table import TABLE
from acode_vllm.vocabulary.redaction import API_KEY_NAME, HF_TOKEN_NAMES

__all__ = ["model", "port"]
STATUS = ("providers", "status", "vllm")
_MODULES = """import sys
sys.argv[1:] = {arguments!r}
from acode_vllm.cli.main import main
code = main()
print(*sys.modules, file=sys.stderr)
raise SystemExit(code)
"""


class Home:
    """A user's home with a project in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ: dict[str, str] = {}
        self.file("home/.config/acode/config.yml", "{}")
        self.file("project/.git/HEAD", "")

    def file(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def digest(self, **flags: str) -> str | None:
        return digest_of(flags, self.environ, str(self.folder / "project" / "below"), str(self.folder / "home"))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def acode(tmp_path: Path, model: str, port: int) -> Iterator[Acode]:
    """The command with a server that runs; at the end it is stopped."""
    command = Acode(tmp_path, model, port)
    command.write()
    command.succeed("providers", "start", "vllm")
    yield command
    command.end()


def modules_of(acode: Acode, *arguments: str) -> set[str]:
    """What the command has loaded at its end."""
    done = subprocess.run(
        [sys.executable, "-c", _MODULES.format(arguments=list(arguments))],
        env={**os.environ, **acode.environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.split())


def timeless(text: str) -> str:
    """Without what changes from one moment to the next."""
    return re.sub(r"\d+(\.\d+)? (seconds?|ms|s\b)", "…", text)


def same(first: Any, second: Any) -> bool:
    """Whether two documents say the same, their times apart."""
    if isinstance(first, dict) and isinstance(second, dict):
        return list(first) == list(second) and all(same(first[name], second[name]) for name in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(same, first, second))
    return isinstance(first, float) or first == second


def test_a_known_configuration_and_an_owner_that_answers_need_next_to_nothing(acode: Acode) -> None:
    acode.succeed(*STATUS)
    loaded = modules_of(acode, *STATUS)
    assert not loaded & {"argparse", "dataclasses", "inspect", "logging", "pathlib", "typing", "subprocess", "yaml"}
    assert "acode_vllm.cli.whole_command" not in loaded


@pytest.mark.slow
def test_it_says_what_the_whole_command_says(acode: Acode) -> None:
    acode.succeed(*STATUS)
    quick, whole = (acode.succeed(*options, *STATUS) for options in ((), ("--log-format", "text")))
    assert timeless(quick) == timeless(whole)
    assert quick.startswith("Service: Running (PID ")

    def is_same() -> bool:
        quick, whole = (acode.succeed(*options, *STATUS, "--json") for options in ((), ("--log-format", "text")))
        return same(json.loads(quick), json.loads(whole))

    assert any(is_same() for _ in range(3)), "a check may come between the two, but not each time"
    assert "acode_vllm.cli.whole_command" in modules_of(acode, "--log-format", "text", *STATUS)


@pytest.mark.slow
def test_a_change_of_the_configuration_holds_at_once(acode: Acode) -> None:
    acode.succeed(*STATUS)
    other = free_port()
    acode.write(port=other)
    assert f"never started on port {other}" in acode.succeed(*STATUS)
    acode.write(port=acode.port)
    assert acode.succeed(*STATUS).startswith("Service: Running")
    acode.write(prot=1)
    done = acode.run(*STATUS)
    assert (done.returncode, "did you mean port?" in done.stderr) == (1, True)
    del acode.settings["prot"]
    acode.write()


@pytest.mark.slow
def test_a_warning_of_the_configuration_is_said_every_time(acode: Acode) -> None:
    acode.environ["ACODE_VLLM_DTYP"] = "half"
    said = [acode.run(*arguments).stderr for arguments in (STATUS, STATUS, ("-q", *STATUS))]
    assert said[0] == said[1] == "Warning: environment ACODE_VLLM_DTYP is unknown; did you mean ACODE_VLLM_DTYPE?\n"
    assert said[2] == ""


def test_what_the_configuration_depends_on_changes_the_digest(home: Home) -> None:
    seen = {home.digest()}
    changes = (
        lambda: home.file("home/.config/acode/config.yml", "mode: {}"),
        lambda: home.file("project/.agent/config.yml", "mode: {}"),
        lambda: home.file("project/.agent/config.yml", "mode: {} "),
        lambda: home.file("project/below/.agent/config.yml", "mode: {}"),
        lambda: home.file("home/.local/state/acode/trusted.json", "{}"),
        lambda: home.environ.update(VLLM_PORT="8001"),
        lambda: home.environ.update(ACODE_MODE="airgapped"),
        lambda: home.environ.update(ACODE_CONFIG="other.yml"),
        lambda: home.file("project/below/other.yml", "mode: {}"),
        lambda: home.environ.update(XDG_CONFIG_HOME="/elsewhere"),
    )
    for number, change in enumerate(changes):
        change()
        seen.add(home.digest())
        assert len(seen) == number + 2
    assert home.digest(port="8002") not in seen
    assert home.digest() in seen
    assert None not in seen


def test_a_file_that_cannot_be_read_has_no_digest(home: Home) -> None:
    (home.folder / "project" / ".agent" / "config.yml").mkdir(parents=True)
    assert home.digest() is None


def test_each_variable_of_a_setting_counts() -> None:
    variables = [setting.variable for setting in TABLE if setting.variable]
    assert [name for name in (*variables, API_KEY_NAME, *HF_TOKEN_NAMES) if not name.startswith(ENVIRONMENT)] == []


def test_what_is_known_is_found_again_and_only_so_much_is_kept(tmp_path: Path) -> None:
    home, store = str(tmp_path), tmp_path / ".cache" / "acode" / "settings"
    for number in range(MOST_ENTRIES + 3):
        remember(str(number), {"number": number}, {}, home)
        os.utime(store / f"{number}.json", (number, number))
    remember("last", {"number": -1}, {}, home)
    assert len(list(store.iterdir())) == MOST_ENTRIES
    assert recall("0", {}, home) is None
    assert recall(None, {}, home) is None
    assert recall(str(MOST_ENTRIES), {}, home) == {"number": MOST_ENTRIES}
    (store / "last.json").chmod(0o666)
    assert recall("last", {}, home) is None, "others could have written it"


@pytest.mark.parametrize("damaged", ["", "[]", '{"options": 7}', "{}", "[" * 100_000])
def test_a_damaged_entry_is_written_anew(damaged: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    environ = {"VLLM_PORT": "8011"}
    first = load_known({}, environ=environ, cwd=tmp_path, home=tmp_path)
    (entry,) = (tmp_path / ".cache" / "acode" / "settings").iterdir()
    content = entry.read_text()
    entry.write_text(damaged)
    assert load_known({}, environ=environ, cwd=tmp_path, home=tmp_path) == first
    assert entry.read_text() == content


def test_a_known_configuration_is_the_one_that_was_resolved_and_holds_no_secret(home: Home) -> None:
    home.file(
        "project/.agent/config.yml",
        "mode: {default: airgapped}\n"
        "providers: {vllm: {model: org/name, max_model_len: 4096, gpu: {device_map: [0, 1], memory_utilization: 0.5},"
        " lifecycle: {mode: monitored, stop_on_exit: true}}}\n",
    )
    home.environ |= {"VLLM_API_KEY": "sk-very-secret-key", "HF_TOKEN": "hf_very-secret", "ACODE_VLLM_DTYP": "half"}
    cwd, user = home.folder / "project", home.folder / "home"
    resolved = load({}, environ=home.environ, cwd=cwd, home=user)
    for _ in range(2):
        assert load_known({}, environ=home.environ, cwd=cwd, home=user) == resolved
    (entry,) = (user / ".cache" / "acode" / "settings").iterdir()
    assert "secret" not in entry.read_text()
    program = (
        "import sys; from pathlib import Path; from acode_vllm.config.cached_configuration import load_known; "
        f"load_known({{}}, environ={home.environ!r}, cwd=Path({str(cwd)!r}), home=Path({str(user)!r})); "
        "assert not {'yaml', 'acode_vllm.config.config', 'acode_vllm.settings.table'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_home_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / ".cache").write_text("a file")
    remember("1", {}, {}, str(tmp_path))
    assert recall("1", {}, str(tmp_path)) is None


@pytest.mark.parametrize(
    ("words", "understood"),
    [
        ("providers status vllm", True),
        ("providers status", True),
        ("-q providers status vllm --json --port 8001 --no-color", True),
        ("--config=c.yml providers --port=8001 status vllm", True),
        ("providers status vllm --all", False),
        ("providers status vllm --watch", False),
        ("providers status ollama", False),
        ("providers status vllm vllm", False),
        ("--json providers status vllm", False),
        ("providers status vllm --port", False),
        ("providers status vllm --port=", False),
        ("providers status vllm --port --json", False),
        ("providers status vllm --port 1 --port 2", False),
        ("providers status vllm -v", False),
        ("providers status vllm --conf x", False),
        ("providers status -- vllm", False),
        ("providers stop vllm", False),
        ("", False),
    ],
)
def test_only_what_is_understood_wholly_is_taken(words: str, understood: bool) -> None:
    assert (quick_status._read(words.split()) is not None) is understood


def test_the_options_of_every_command_are_those_of_the_parser() -> None:
    actions = [action for action in build_parser("ask")._actions if action.dest not in ("help", "version", "command")]
    with_value = {name for action in actions if action.nargs != 0 for name in action.option_strings}
    without_value = {name for action in actions if action.nargs == 0 for name in action.option_strings}
    assert (with_value, without_value) == (set(plain_words.WITH_VALUE), set(plain_words.WITHOUT_VALUE))


def test_the_document_has_the_fields_of_the_report_in_their_order() -> None:
    document = status_document(None, None, "/log", 8000, 1.0)
    assert list(document) == [field.name for field in fields(StatusReport)]
    assert list(document["ages_seconds"]) == [field.name for field in fields(Ages)]
