"""The bundle for a bug report: what is in it, for whose eyes, and that no secret is."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.report.bug_report import LOG_BYTES, check_path, redacted, redacted_file, write_bundle
from acode_vllm.vocabulary.errors import ConfigurationError
from acode_vllm.vocabulary.history import History, HistoryEntry
from acode_vllm.vocabulary.redaction import Redactor

TOKEN = "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz012345"
KEY = "correct horse battery"
FILE_TOKEN = "hf_" + "TokenThatLiesInAFile0123456789ab"
PLAIN = "swordfish-without-a-shape"


def acode(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "acode_vllm.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        env={**os.environ, "PYTHONSAFEPATH": "1", **env},
    )


def read(path: Path) -> dict[str, str]:
    """Name without its folder → content."""
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    else:
        with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as tar:
            members = {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]
    return {name.rpartition("/")[2]: content.decode() for name, content in members.items()}


@pytest.fixture
def service_folder(own_world: Path) -> ServiceFolder:
    """The folder of a service that has run, with secrets where somebody may have left them."""
    folder = ServiceFolder.of(os.environ, 8000)
    folder.ensure()
    folder.log.write_text(
        f"loading\nAuthorization: Bearer {KEY.split()[0]}key-0123456\nthe token is {TOKEN}\n{PLAIN}\n"
    )
    (folder.path / "vllm.log.1").write_text(f"older, with {FILE_TOKEN}\n")
    History(folder.history).append([HistoryEntry(1.0, "problem", {"message": f"refused {TOKEN}", "api_key": "abcd"})])
    hub = own_world / "cache" / "huggingface"
    hub.mkdir()
    (hub / "token").write_text(FILE_TOKEN)
    return folder


@pytest.mark.parametrize("kind", ["report.tar.gz", "report.tgz", "report.zip"])
@pytest.mark.usefixtures("service_folder")
def test_it_holds_report_settings_versions_history_and_logs_and_no_secret(own_world: Path, kind: str) -> None:
    bundle = own_world / kind
    done = acode("doctor", "--bundle", str(bundle), HF_TOKEN=TOKEN, MY_SECRET=PLAIN, VLLM_API_KEY="k-" + PLAIN)
    found = read(bundle)
    assert set(found) == {
        *("doctor.txt", "doctor.json", "environment.json", "configuration.json", "machine.json"),
        *("history.jsonl", "vllm.log", "vllm.log.1"),
    }
    everything = "\n".join(found.values()) + done.stdout + done.stderr
    for secret in (TOKEN, FILE_TOKEN, PLAIN, "key-0123456", "abcd"):
        assert secret not in everything
    assert json.loads(found["doctor.json"])["versions"]["python"]
    assert "vllm" in json.loads(found["doctor.json"])["versions"]
    settings = json.loads(found["configuration.json"])["settings"]
    assert settings["providers.vllm.model"]["source"] == "default"
    assert json.loads(found["environment.json"])["HF_TOKEN"] == "***"
    machine = json.loads(found["machine.json"])
    assert 0 < machine["memory_bytes"]["available"] <= machine["memory_bytes"]["total"]
    assert 0 < machine["disk_bytes"]["free"] <= machine["disk_bytes"]["total"]
    assert "the token is ***" in found["vllm.log"]
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o600


def test_secrets_of_the_configuration_file_are_in_no_bundle(own_world: Path) -> None:
    config = own_world / "my.yml"
    config.write_text(
        "providers:\n  vllm:\n    lifecycle: {mode: monitored}\n"
        f"    base_url: 'http://user:{PLAIN}@127.0.0.1:9'\n    env: {{MY_TOKEN: {PLAIN}}}\n"
    )
    bundle = own_world / "report.tar.gz"
    done = acode("--config", str(config), "doctor", "--bundle", str(bundle))
    assert PLAIN not in "\n".join(read(bundle).values()) + done.stdout + done.stderr


def test_a_configuration_that_is_wrong_is_packed_as_such(own_world: Path) -> None:
    bundle = own_world / "report.zip"
    assert acode("--port", "80", "doctor", "--bundle", str(bundle)).returncode == 1
    assert "ACODE-VLM-010" in read(bundle)["doctor.txt"]


def test_what_is_there_already_is_left_as_it_is(own_world: Path) -> None:
    bundle = own_world / "report.zip"
    bundle.write_text("mine")
    done = acode("doctor", "--bundle", str(bundle))
    assert done.returncode == 1
    assert "exists already" in done.stderr
    assert bundle.read_text() == "mine"


@pytest.mark.parametrize("name", ["report", "report.txt", ".zip", "nowhere/report.zip", "link.zip"])
def test_a_name_that_cannot_be_written_is_refused_before_anything_is_looked_at(tmp_path: Path, name: str) -> None:
    (tmp_path / "link.zip").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError):
        check_path(tmp_path / name)
    with pytest.raises(ConfigurationError):
        write_bundle(tmp_path / name, [])
    assert not (tmp_path / "elsewhere").exists()


def test_of_a_long_log_the_end_is_packed_from_a_whole_line_on(tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    log.write_bytes(TOKEN.encode() + b"x" * (LOG_BYTES - 10) + b"\nthe end\n")
    content = redacted_file(log, Redactor())
    assert content is not None
    assert content.decode().splitlines()[0].startswith("[")
    assert content.endswith(b"\nthe end\n")
    assert b"xxx" not in content


def test_a_log_that_is_no_plain_file_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "link.log").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo.log")
    assert redacted_file(tmp_path / "link.log", Redactor()) is None
    assert redacted_file(tmp_path / "fifo.log", Redactor()) is None
    assert redacted_file(tmp_path / "none.log", Redactor()) is None


def test_values_are_redacted_by_their_names_too() -> None:
    data = {"a": [{"api_key": "abcd", "n": 1}], TOKEN: None}
    assert redacted(data, Redactor().redact) == {"a": [{"api_key": "***", "n": 1}], "***": None}
