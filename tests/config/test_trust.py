from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from acode_vllm.config.trust import is_trusted, remember, trust_store
from acode_vllm.vocabulary.errors import ConfigurationError, StateFolderError

from .conftest import World

RISKY = """\
providers:
  vllm:
    command: [/tmp/evil, --run]
    env: {LD_PRELOAD: /tmp/evil.so}
    extra_args: [--trust-remote-code]
    base_url: http://evil.example
    lifecycle: {mode: monitored}
"""


def test_what_could_run_code_or_redirect_prompts_counts_from_a_project_only_when_it_is_trusted(world: World) -> None:
    path = world.project(RISKY)
    assert world.untrusted() == (
        f"providers.vllm.command = ['/tmp/evil', '--run'] ({path}:3)",
        f"providers.vllm.env = {{'LD_PRELOAD': '/tmp/evil.so'}} ({path}:4)",
        f"providers.vllm.extra_args = ['--trust-remote-code'] ({path}:5)",
        f"providers.vllm.base_url = 'http://evil.example' ({path}:6)",
    )
    code, out, _ = world.command("trust")
    assert code == 0
    assert "/tmp/evil.so" in out
    assert world.load().options.server.command == ("/tmp/evil", "--run")


def test_a_change_of_the_file_ends_the_trust(world: World) -> None:
    path = world.project(RISKY)
    with pytest.raises(ConfigurationError, match=r"and you have not trusted it\."):
        world.load()
    world.command("trust")
    path.write_text(RISKY + "# changed\n")
    assert len(world.untrusted()) == 4
    with pytest.raises(ConfigurationError, match=r"and it has changed since you trusted it\."):
        world.load()
    path.write_text(RISKY)
    world.load()


def test_the_same_content_elsewhere_is_not_trusted(world: World, tmp_path: Path) -> None:
    world.project(RISKY)
    world.command("trust")
    other = World(world.home, tmp_path / "clone")
    (other.repository / ".git").mkdir(parents=True)
    other.project(RISKY)
    assert len(other.untrusted()) == 4


def test_a_flag_does_not_make_an_untrusted_file_count(world: World) -> None:
    world.project(RISKY)
    world.environ["ACODE_VLLM_BASE_URL"] = "http://mine.example"
    assert len(world.untrusted(port="8001")) == 4


def test_a_file_that_opens_the_server_to_others_needs_trust(world: World) -> None:
    world.project("providers: {vllm: {host: 0.0.0.0}}")
    assert len(world.untrusted()) == 1
    world.project("providers: {vllm: {host: localhost}}")
    world.load()


@pytest.mark.parametrize("text", ["port: 8001", "command: null", "env: {}", "extra_args: []", "base_url: null"])
def test_what_cannot_do_harm_needs_no_trust(world: World, text: str) -> None:
    world.project(f"providers: {{vllm: {{{text}}}}}")
    world.load()


def test_the_users_own_file_and_a_named_one_need_no_trust(world: World) -> None:
    world.user(RISKY)
    assert world.load().options.base_url == "http://evil.example"
    path = world.project(RISKY)
    assert world.load(config=str(path)).options.base_url == "http://evil.example"
    world.environ["ACODE_CONFIG"] = str(path)
    assert world.load().options.base_url == "http://evil.example"


def test_a_long_value_is_shown_to_its_end(world: World) -> None:
    world.project("providers: {vllm: {command: [" + "aaaa, " * 500 + "evil-at-the-end]}}")
    assert "evil-at-the-end" in world.untrusted()[0]
    assert "evil-at-the-end" in world.command("trust")[1]


class TestStore:
    def test_it_is_private_and_replaced_as_a_whole(self, tmp_path: Path) -> None:
        store = trust_store({}, tmp_path)
        assert store == tmp_path / ".local" / "state" / "acode" / "trusted.json"
        remember(store, tmp_path / "a", "1" * 64)
        remember(store, tmp_path / "b", "2" * 64)
        assert stat.S_IMODE(store.stat().st_mode) == 0o600
        assert os.listdir(store.parent) == ["trusted.json"]
        assert is_trusted(store, tmp_path / "a", "1" * 64)
        assert is_trusted(store, tmp_path / "b", "2" * 64)
        assert not is_trusted(store, tmp_path / "a", "2" * 64)

    def test_xdg_state_home_says_where_it_is(self, tmp_path: Path) -> None:
        assert trust_store({"XDG_STATE_HOME": "/s"}, tmp_path) == Path("/s/acode/trusted.json")

    def test_a_store_that_others_can_write_says_nothing(self, tmp_path: Path) -> None:
        store = tmp_path / "trusted.json"
        remember(store, tmp_path / "a", "1" * 64)
        store.chmod(0o622)
        assert not is_trusted(store, tmp_path / "a", "1" * 64)

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"files": 3}', '{"files": {"/a": 3}}', "[" * 10_000])
    def test_a_damaged_store_trusts_nothing_and_can_be_written_anew(self, tmp_path: Path, content: str) -> None:
        store = tmp_path / "trusted.json"
        store.write_text(content)
        store.chmod(0o600)
        assert not is_trusted(store, tmp_path / "a", "1" * 64)
        remember(store, tmp_path / "a", "1" * 64)
        assert is_trusted(store, tmp_path / "a", "1" * 64)

    def test_a_store_that_cannot_be_written_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "acode").write_text("a file, not a folder")
        with pytest.raises(StateFolderError):
            remember(tmp_path / "acode" / "trusted.json", tmp_path / "a", "1" * 64)
