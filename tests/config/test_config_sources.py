from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from acode_vllm.config.configuration import Origin, Source
from acode_vllm.settings.table import TABLE
from acode_vllm.vocabulary.options import DEFAULT_MODEL, GpuOptions, LogOptions, ServerOptions, VllmLifecycleOptions
from acode_vllm.vocabulary.states import LifecycleMode, WarmStart

from .conftest import World, section

PORT = "providers.vllm.port"
MODEL = "providers.vllm.model"


class TestDefaults:
    @pytest.mark.spec("FR-009", "FR-023", "FR-033", "FR-036", "FR-039", "AC-004", "UT-008")
    def test_without_a_file_the_defaults_hold(self, world: World) -> None:
        configuration = world.load()
        assert configuration.model == DEFAULT_MODEL == "meta-llama/Llama-2-7b-hf"
        assert configuration.options == VllmLifecycleOptions()
        options = configuration.options
        assert (options.mode, options.port) == (LifecycleMode.MANAGED, 8000)
        assert (options.start_timeout_seconds, options.health_check_interval_seconds) == (30.0, 60.0)
        assert options.model_load_timeout_seconds == 300.0
        assert (options.max_restarts_per_minute, options.restart_delay_seconds) == (3, 2.0)
        assert set(configuration.origins.values()) == {Origin(Source.DEFAULT)}
        assert configuration.sources == ()

    def test_without_a_file_yaml_is_never_imported(self, tmp_path: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from acode_vllm.config.config import load;"
            f"load(environ={{}}, cwd=Path({str(tmp_path)!r}), home=Path({str(tmp_path)!r}));"
            "assert not {'yaml', 'requests', 'psutil', 'huggingface_hub', 'json', 'difflib'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=30)

    def test_every_default_is_allowed(self) -> None:
        for setting in TABLE:
            assert setting.read(setting.default) == setting.default, setting.key

    def test_loading_costs_little(self, world: World) -> None:
        world.project(section("port: 8001\nlifecycle:\n  start_timeout_seconds: 5\n"))
        world.load()
        began = time.process_time()
        for _ in range(20):
            world.load()
        # Generous: 1 to 2 ms each were measured, reading YAML included.
        assert (time.process_time() - began) / 20 < 0.02


class TestFiles:
    @pytest.mark.spec("FR-036", "FR-037", "AC-022", "AC-028", "FR-028", "FR-029", "FR-030", "UT-008")
    def test_every_key_is_read_from_the_projects_file(self, world: World) -> None:
        path = world.user(
            section(
                """\
model: org/name
port: 8001
metrics_port: 9100
command: /opt/vllm/bin/vllm serve
env: {VLLM_CPU_KVCACHE_SPACE: "1"}
extra_args: --enforce-eager --max-num-seqs 4
host: localhost
served_model_name: name
max_model_len: 2048
dtype: float32
quantization: awq
lifecycle:
  mode: Managed
  start_timeout_seconds: 31
  model_load_timeout_seconds: 301.5
  health_check_interval_seconds: 61
  max_restarts_per_minute: 4
  restart_delay_seconds: 3
  stop_timeout_seconds: 11
  stop_on_exit: true
  engine_check_timeout_seconds: 0
  engine_check_interval_seconds: 30
  engine_stall_timeout_seconds: 601
  drain_timeout_seconds: 0
  warm_start: "off"
gpu:
  memory_utilization: 0.8
  tensor_parallel_size: 2
  pipeline_parallel_size: 1
  device_map: [0, GPU-0123abcd]
  sample_interval_seconds: 0
logs:
  max_bytes: 0
  copies: 5
"""
            )
        )
        configuration = world.load()
        assert configuration.model == "org/name"
        assert configuration.options == VllmLifecycleOptions(
            port=8001,
            metrics_port=9100,
            start_timeout_seconds=31.0,
            model_load_timeout_seconds=301.5,
            health_check_interval_seconds=61.0,
            max_restarts_per_minute=4,
            restart_delay_seconds=3.0,
            stop_timeout_seconds=11.0,
            stop_on_exit=True,
            engine_check_timeout_seconds=0.0,
            engine_check_interval_seconds=30.0,
            engine_stall_timeout_seconds=601.0,
            drain_timeout_seconds=0.0,
            warm_start=WarmStart.OFF,
            gpu=GpuOptions(
                memory_utilization=0.8,
                tensor_parallel_size=2,
                device_map=("0", "GPU-0123abcd"),
                sample_interval_seconds=0.0,
            ),
            logs=LogOptions(max_bytes=0, copies=5),
            server=ServerOptions(
                command=("/opt/vllm/bin/vllm", "serve"),
                host="localhost",
                served_model_name="name",
                max_model_len=2048,
                dtype="float32",
                quantization="awq",
                extra_args=("--enforce-eager", "--max-num-seqs", "4"),
                env={"VLLM_CPU_KVCACHE_SPACE": "1"},
            ),
        )
        assert configuration.origins[PORT] == Origin(Source.FILE, str(path), 4)
        in_file = [key for key, origin in configuration.origins.items() if origin.source is Source.FILE]
        assert len(in_file) == len(TABLE) - len(("base_url", "mode.default", "mode.airgapped_lock"))

    @pytest.mark.spec("FR-037")
    def test_the_projects_file_is_found_from_a_folder_below_and_stops_at_the_repository(self, world: World) -> None:
        world.project(section("port: 8001"))
        below = world.repository / "a" / "b"
        below.mkdir(parents=True)
        assert world.load_from(below).options.port == 8001
        (world.repository / "a" / ".git").write_text("gitdir: elsewhere")
        assert world.load_from(below).options.port == 8000

    def test_outside_a_repository_only_the_current_folder_is_looked_into(self, world: World) -> None:
        world.project(section("port: 8001"))
        (world.repository / ".git").rmdir()
        below = world.repository / "a"
        below.mkdir()
        assert world.load().options.port == 8001
        assert world.load_from(below).options.port == 8000

    def test_the_keys_of_the_projects_and_the_users_file_merge(self, world: World) -> None:
        project = world.project(section("port: 8001\nlifecycle:\n  stop_on_exit: true\n"))
        user = world.user(section("model: org/users\nport: 8002\nlifecycle:\n  start_timeout_seconds: 5\n"))
        configuration = world.load()
        assert (configuration.model, configuration.options.port) == ("org/users", 8001)
        assert configuration.options.stop_on_exit
        assert configuration.options.start_timeout_seconds == 5
        assert configuration.sources == (user, project)

    def test_xdg_config_home_says_where_the_users_file_is(self, world: World, tmp_path: Path) -> None:
        other = tmp_path / "xdg" / "acode"
        other.mkdir(parents=True)
        (other / "config.yml").write_text(section("port: 8003"))
        world.environ["XDG_CONFIG_HOME"] = str(tmp_path / "xdg")
        assert world.load().options.port == 8003
        world.environ["XDG_CONFIG_HOME"] = "xdg"
        assert world.load_from(tmp_path).options.port == 8000

    @pytest.mark.parametrize("by", ["flag", "variable"])
    def test_a_named_file_takes_the_place_of_both(self, world: World, by: str) -> None:
        world.project(section("port: 8001"))
        world.user(section("model: org/users"))
        (world.repository / "other.yml").write_text(section("base_url: http://h:1\nlifecycle: {mode: external}"))
        if by == "variable":
            world.environ["ACODE_CONFIG"] = "other.yml"
        configuration = world.load(config="other.yml" if by == "flag" else None)
        assert (configuration.model, configuration.options.port) == (DEFAULT_MODEL, 8000)
        assert configuration.options.base_url == "http://h:1"

    @pytest.mark.parametrize(
        ("make", "reason"),
        [
            (lambda path: None, "does not exist"),
            (lambda path: path.mkdir(), "cannot be read|not a regular file"),
            (lambda path: __import__("os").mkfifo(path), "not a regular file"),
            (lambda path: path.write_bytes(b"\xff\xfe\x00"), "UTF-8"),
            (lambda path: path.write_bytes(b"#" * (1_048_577)), "larger than"),
            (lambda path: path.write_text("a: [\n"), "not valid YAML"),
        ],
        ids=["missing", "folder", "pipe", "binary", "large", "broken"],
    )
    def test_a_file_that_cannot_be_read_is_a_mistake(self, world: World, make: object, reason: str) -> None:
        path = world.repository / "named.yml"
        make(path)  # type: ignore[operator]
        (line,) = world.mistakes(config=str(path))
        assert any(part in line for part in reason.split("|"))
        assert str(path) in line

    def test_sections_of_others_are_passed_over_in_silence(self, world: World) -> None:
        world.project("schema_version: 1\nmodel: {a: 1}\nproviders:\n  ollama: {prt: 1}\nmode: {burst: {x: 1}}\n")
        assert world.load().options == VllmLifecycleOptions()
        assert world.load().warnings == ()

    @pytest.mark.parametrize("text", ["providers:\n", "providers:\n  vllm:\n", section("lifecycle:\ngpu:")])
    def test_a_section_with_nothing_in_it_is_as_good_as_none(self, world: World, text: str) -> None:
        world.project(text)
        assert world.load().options == VllmLifecycleOptions()


class TestPrecedence:
    @pytest.mark.spec("FR-038", "FR-010", "AC-023", "AC-004", "UT-008")
    def test_flag_then_environment_then_file_then_default(self, world: World) -> None:
        keys = (MODEL, PORT)

        def seen(**flags: object) -> tuple[object, ...]:
            configuration = world.load(**flags)
            return (configuration.model, configuration.options.port, *(str(configuration.origins[key]) for key in keys))

        assert seen() == (DEFAULT_MODEL, 8000, "default", "default")
        path = world.project(section("model: org/file\nport: 8001"))
        assert seen() == ("org/file", 8001, f"{path}:3", f"{path}:4")
        world.environ |= {"VLLM_MODEL": "org/variable", "VLLM_PORT": "8002"}
        assert seen() == ("org/variable", 8002, "environment VLLM_MODEL", "environment VLLM_PORT")
        assert seen(model="org/flag", port="8003") == ("org/flag", 8003, "flag --model", "flag --port")

    @pytest.mark.spec("AC-023")
    def test_every_variable_overrides_its_setting(self, world: World) -> None:
        texts = {"mode": "monitored", "default": "airgapped", "model": "a/b", "base_url": "http://h", "host": "::1"}
        texts |= {
            "command": "vllm",
            "extra_args": "--enforce-eager",
            "served_model_name": "n",
            "dtype": "auto",
            "quantization": "q",
        }
        texts |= {"device_map": "0,1", "memory_utilization": "0.5", "stop_on_exit": "yes", "port": "8005"}
        texts |= {"metrics_port": "9100", "warm_start": "off"}
        wanted = {
            s.key: (s.variable, texts.get(s.key.rpartition(".")[2], "1" if "parallel" in s.key else "7"))
            for s in TABLE
            if s.variable
        }
        world.environ.update(wanted.values())
        configuration = world.load()
        for key, (variable, _) in wanted.items():
            assert str(configuration.origins[key]) == f"environment {variable}"
        assert configuration.options.gpu.device_map == ("0", "1")
        assert configuration.options.stop_on_exit
        assert configuration.options.drain_timeout_seconds == 7.0

    def test_an_empty_variable_is_not_set(self, world: World) -> None:
        world.environ |= {"VLLM_PORT": "", "VLLM_MODEL": "", "ACODE_CONFIG": "", "HF_TOKEN": ""}
        assert world.load().options.port == 8000
        assert world.load().secrets.hf_token is None

    def test_a_flag_makes_a_wrong_variable_harmless(self, world: World) -> None:
        world.environ["VLLM_PORT"] = "tcp://10.0.0.1:8000"
        assert world.load(port="8001").options.port == 8001
        (line,) = world.mistakes()
        assert "enableServiceLinks" in line

    def test_an_unknown_variable_of_ours_is_a_warning(self, world: World) -> None:
        world.environ["ACODE_VLLM_STOP_ON_EXT"] = "1"
        assert world.load().warnings == (
            "environment ACODE_VLLM_STOP_ON_EXT is unknown; did you mean ACODE_VLLM_STOP_ON_EXIT?",
        )

    def test_other_flags_of_a_parser_are_passed_over(self, world: World) -> None:
        assert world.load(command="providers", action="start", port=None).options == VllmLifecycleOptions()


class TestHome:
    def test_a_tilde_in_a_path_of_a_file_is_the_home_folder(self, world: World) -> None:
        world.user(section('model: ~/models/mine\nenv: {HF_HOME: ~/hub, X: "a~b"}'))
        found = world.load()
        assert found.model == f"{world.home}/models/mine"
        assert found.options.server.env == {"HF_HOME": f"{world.home}/hub", "X": "a~b"}

    def test_so_it_is_in_commands_and_arguments(self, world: World) -> None:
        world.user(
            section("command: ~/venv/bin/vllm serve\nextra_args: [--chat-template=~/a.jinja, --lora-modules, m=~/l]")
        )
        server = world.load().options.server
        assert server.command == (f"{world.home}/venv/bin/vllm", "serve")
        assert server.extra_args == (f"--chat-template={world.home}/a.jinja", "--lora-modules", f"m={world.home}/l")

    def test_so_it_is_in_the_environment_and_in_flags(self, world: World) -> None:
        world.environ["VLLM_MODEL"] = "~/one"
        assert world.load().model == f"{world.home}/one"
        assert world.load(model="~/two").model == f"{world.home}/two"
