from __future__ import annotations

import json

import pytest

from acode_vllm.config.remembered_model import remember_model
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.settings.table import TABLE
from acode_vllm.vocabulary.errors import ConfigurationError
from acode_vllm.vocabulary.options import VllmLifecycleOptions

from .conftest import World, section


class TestShow:
    def test_it_prints_every_setting_with_its_value_and_origin(self, world: World) -> None:
        path = world.project("providers:\n  vllm:\n    port: 8001\n")
        world.environ |= {"VLLM_MODEL": "org/name", "HF_TOKEN": "geheim!"}
        code, out, err = world.command("show", "--lifecycle-mode", "monitored")
        rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
        assert code == 0
        assert set(rows) == {setting.key for setting in TABLE} | {"HF_TOKEN", "VLLM_API_KEY"}
        assert rows["providers.vllm.port"] == ["8001", f"{path}:3"]
        assert rows["providers.vllm.model"] == ["'org/name'", "environment", "VLLM_MODEL"]
        assert rows["providers.vllm.lifecycle.mode"] == ["'monitored'", "flag", "--lifecycle-mode"]
        assert rows["providers.vllm.lifecycle.stop_on_exit"] == ["false", "default"]
        assert (rows["HF_TOKEN"], rows["VLLM_API_KEY"]) == (["set"], ["not", "set"])
        assert "geheim!" not in out + err
        assert str(path) in err

    def test_as_json_it_says_the_same(self, world: World) -> None:
        path = world.user("providers:\n  vllm:\n    port: 8001\n    command: vllm serve\n")
        world.environ["VLLM_API_KEY"] = "geheim!"
        code, out, _ = world.command("show", "--json", "--model", "org/name")
        data = json.loads(out)
        assert code == 0
        port = {"value": 8001, "source": "file", "name": str(path), "line": 3}
        assert data["settings"]["providers.vllm.port"] == port
        assert data["settings"]["providers.vllm.command"]["value"] == ["vllm", "serve"]
        assert data["settings"]["providers.vllm.model"]["name"] == "--model"
        assert data["secrets_set"] == {"HF_TOKEN": False, "VLLM_API_KEY": True}
        assert data["files"] == [str(path)]
        assert "geheim!" not in out


class TestCheck:
    def test_it_says_ok(self, world: World) -> None:
        world.environ["ACODE_VLLM_PROT"] = "1"
        code, out, err = world.command("check")
        assert (code, out) == (0, "OK: the configuration is valid.\n")
        assert "the defaults apply" in err
        assert "ACODE_VLLM_PROT" in err

    @pytest.mark.spec("AC-024")
    def test_it_raises_what_is_wrong(self, world: World) -> None:
        world.project("providers: {vllm: {prt: 1}}")
        with pytest.raises(ConfigurationError, match="did you mean port"):
            world.command("check")


class TestShowOfWhatIsNotUsual:
    def test_a_file_that_is_not_trusted_is_shown_and_said_to_be_so(self, world: World) -> None:
        path = world.project("providers: {vllm: {command: evil}}")
        code, out, err = world.command("show")
        assert code == 0
        assert "evil" in out
        assert "you have not trusted it" in err
        assert "acode config trust" in err
        assert f"not trusted: providers.vllm.command = ['evil'] ({path}:1)" in err
        data = json.loads(world.command("show", "--json")[1])
        assert any("not trusted" in warning for warning in data["warnings"])

    @pytest.mark.parametrize("command", ["check"])
    def test_nothing_else_reads_it(self, world: World, command: str) -> None:
        world.project("providers: {vllm: {command: evil}}")
        with pytest.raises(ConfigurationError, match="have not trusted"):
            world.command(command)

    def test_the_model_that_set_model_chose_is_shown(self, world: World) -> None:
        world.user(section("model: org/configured"))
        folder = ServiceFolder.of({"HOME": str(world.home)}, 8000)
        remember_model(folder, "org/chosen", "org/configured")
        row = next(line for line in world.command("show")[1].splitlines() if line.startswith("providers.vllm.model "))
        assert row.split() == ["providers.vllm.model", "'org/chosen'", "set-model"]
        world.environ["VLLM_MODEL"] = "org/named"
        assert "'org/named'" in world.command("show")[1]
        del world.environ["VLLM_MODEL"]
        world.user(section("model: org/later"))
        assert "'org/later'" in world.command("show")[1]


class TestTrust:
    def test_without_a_file_it_is_an_error(self, world: World) -> None:
        with pytest.raises(ConfigurationError, match=r"no \.agent/config\.yml"):
            world.command("trust")

    def test_a_file_that_needs_none_is_left_alone(self, world: World) -> None:
        world.project("providers: {vllm: {port: 8001}}")
        assert "nothing that needs trust" in world.command("trust")[1]
        assert not (world.home / ".local").exists()

    def test_a_file_that_was_not_read_whole_is_not_trusted(self, world: World) -> None:
        world.project("providers: {vllm: {command: vllm, env: {A: !x b}}}")
        with pytest.raises(ConfigurationError):
            world.command("trust")


class TestInit:
    def test_it_writes_a_file_that_holds_the_defaults(self, world: World) -> None:
        code, out, _ = world.command("init")
        assert (code, out) == (0, f"Wrote {world.project_file}\n")
        assert world.load().options == VllmLifecycleOptions()
        assert world.load().sources == (world.project_file,)

    def test_it_overwrites_only_by_force_and_says_so(self, world: World) -> None:
        path = world.project("# mine\n")
        with pytest.raises(ConfigurationError, match="already exists") as caught:
            world.command("init")
        assert "acode config init --force" in caught.value.problem.remedy
        assert path.read_text() == "# mine\n"
        assert world.command("init", "--force")[0] == 0
        assert world.load().sources == (path,)
        assert "# mine" not in path.read_text()

    def test_it_writes_at_the_repositorys_root(self, world: World) -> None:
        below = world.repository / "a"
        below.mkdir()
        World(world.home, below, world.environ).command("init")
        assert world.project_file.exists()

    def test_where_it_cannot_write_it_says_so(self, world: World) -> None:
        (world.repository / ".agent").write_text("")
        with pytest.raises(ConfigurationError, match="cannot be written"):
            world.command("init")
