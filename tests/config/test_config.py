from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from acode_vllm.errors import ConfigurationError
from acode_vllm.options import DEFAULT_MODEL, GpuOptions, ServerOptions, VllmLifecycleOptions
from acode_vllm.origins import Origin, Source
from acode_vllm.settings import TABLE
from acode_vllm.states import LifecycleMode
from acode_vllm.validation import options_problems

from .conftest import World

PORT = "providers.vllm.port"
MODEL = "providers.vllm.model"


def section(text: str) -> str:
    """A file with these lines below `providers.vllm`."""
    return "providers:\n  vllm:\n" + "".join(f"    {line}\n" for line in text.splitlines())


class TestDefaults:
    @pytest.mark.spec("FR-036", "FR-039", "AC-004", "UT-008")
    def test_without_a_file_the_defaults_hold(self, world: World) -> None:
        configuration = world.load()
        assert configuration.model == DEFAULT_MODEL == "meta-llama/Llama-2-7b-hf"
        assert configuration.options == VllmLifecycleOptions()
        options = configuration.options
        assert (options.mode, options.port) == (LifecycleMode.MANAGED, 8000)
        assert (options.start_timeout_seconds, options.health_check_interval_seconds) == (30.0, 60.0)
        assert (options.max_restarts_per_minute, options.restart_delay_seconds) == (3, 2.0)
        assert set(configuration.origins.values()) == {Origin(Source.DEFAULT)}
        assert configuration.sources == ()

    def test_without_a_file_yaml_is_never_imported(self, tmp_path: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from acode_vllm.config import load;"
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
    @pytest.mark.spec("FR-037", "AC-022", "AC-028", "FR-028", "FR-029", "FR-030", "UT-008")
    def test_every_key_is_read_from_the_projects_file(self, world: World) -> None:
        path = world.user(
            section(
                """\
model: org/name
port: 8001
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
gpu:
  memory_utilization: 0.8
  tensor_parallel_size: 2
  pipeline_parallel_size: 1
  device_map: [0, GPU-0123abcd]
  sample_interval_seconds: 0
"""
            )
        )
        configuration = world.load()
        assert configuration.model == "org/name"
        assert configuration.options == VllmLifecycleOptions(
            port=8001,
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
            gpu=GpuOptions(
                memory_utilization=0.8,
                tensor_parallel_size=2,
                device_map=("0", "GPU-0123abcd"),
                sample_interval_seconds=0.0,
            ),
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


class TestMistakes:
    @pytest.mark.spec("FR-041", "AC-024", "UT-008")
    def test_all_mistakes_are_reported_at_once_with_key_value_allowed_and_origin(self, world: World) -> None:
        path = world.project(
            section(
                "prt: 8001\nport: '8000'\nlifecycle:\n  mode: manged\n  start_timeout_seconds: -1\n"
                "start_timeout_seconds: 3"
            )
        )
        world.environ["ACODE_VLLM_STOP_ON_EXIT"] = "maybe"
        lines = world.mistakes(port="70000")
        assert set(lines) == {
            f"providers.vllm.prt ({path}:3): is unknown; did you mean port?",
            f"providers.vllm.port = '8000' ({path}:4): is text; allowed: a whole number from 1024 to 65535",
            f"providers.vllm.lifecycle.mode = 'manged' ({path}:6): is not one of them;"
            " allowed: managed, monitored or external",
            f"providers.vllm.lifecycle.start_timeout_seconds = -1 ({path}:7): is out of range;"
            " allowed: a number above 0, up to 604800",
            f"providers.vllm.start_timeout_seconds ({path}:8): is unknown;"
            " did you mean providers.vllm.lifecycle.start_timeout_seconds?",
            "providers.vllm.lifecycle.stop_on_exit = 'maybe' (environment ACODE_VLLM_STOP_ON_EXIT):"
            " is neither true nor false; allowed: true or false",
            "providers.vllm.port = '70000' (flag --port): is out of range; allowed: a whole number from 1024 to 65535",
        }

    @pytest.mark.spec("FR-041", "FR-042", "AC-024", "AC-026", "AC-027")
    @pytest.mark.parametrize(
        "line",
        [
            "port: 1023", "port: 65536", "port: true", "port: 8000.0", "port: '8000'", "port: 8e3", "port: [8000]",
            "port:",
            "model: gpt2", "model: 5", "model: -x", "model: ../x", "model:", "host: 'a b'", "host: ''", "host: 1.2.3",
            "gpu: {memory_utilization: 1.01}", "gpu: {memory_utilization: -0.1}", "gpu: {memory_utilization: .nan}",
            "gpu: {memory_utilization: '0.9'}", "gpu: {memory_utilization: true}", "gpu: {tensor_parallel_size: 0}",
            "gpu: {tensor_parallel_size: 1.5}", "gpu: {device_map: []}", "gpu: {device_map: [0, 0]}", "gpu: [1]",
            "gpu: {device_map: [-1]}", "gpu: {device_map: [true]}", "gpu: {device_map: 0}", "lifecycle: on",
            "lifecycle: {start_timeout_seconds: 0}", "lifecycle: {stop_timeout_seconds: -1}",
            "lifecycle: {health_check_interval_seconds: .inf}", "lifecycle: {model_load_timeout_seconds: 1e400}",
            "lifecycle: {max_restarts_per_minute: 0}", "lifecycle: {max_restarts_per_minute: 11}",
            "lifecycle: {restart_delay_seconds: 1.9}", "lifecycle: {stop_on_exit: 1}",
            "lifecycle: {stop_on_exit: 'true'}",
            "lifecycle: {mode: 1}", "lifecycle: {mode: auto}", "dtype: int8", "quantization: -x", "max_model_len: 0",
            "served_model_name: -x", "served_model_name: ''", "command: []", "command: ''", "command: 'a \"b'",
            "command: 5",
            "command: ./vllm", "env: [A]", "env: {A: 1}", "env: {A: true}", "env: {HF_TOKEN: x}", "env: {'A B': x}",
            "extra_args: [--port, '1']", "extra_args: --host=x", "extra_args: [1]", "extra_args: [other/model]",
            "base_url: http://h", "base_url: ftp://h", "base_url: http://u:p@h", "base_url: h:8000", "base_url: 'http://h/?x=1'",
            "base_url: 'http://h:99999'", "base_url: 'http://'", "base_url: 'http://[::1'", "base_url: 'http://h h'",
        ],
    )  # fmt: skip
    def test_what_is_not_allowed_is_refused(self, world: World, line: str) -> None:
        world.user(section(line))
        mistakes = world.mistakes()
        assert f"{world.user_file}:3" in mistakes[0]
        assert mistakes[0].startswith(f"providers.vllm.{line.split(':')[0]}")

    @pytest.mark.spec("FR-040", "FR-042", "AC-026", "AC-027", "AC-028")
    @pytest.mark.parametrize(
        "line",
        [
            "port: 1024", "port: 8000", "port: 8001", "port: 65535", "gpu: {memory_utilization: 0.0}",
            "model: /models/x",
            "gpu: {memory_utilization: 1}", "gpu: {memory_utilization: 0}", "gpu: {device_map: ['0', 1]}",
            "lifecycle: {max_restarts_per_minute: 10}", "lifecycle: {max_restarts_per_minute: 1}",
            "lifecycle: {mode: EXTERNAL}", "lifecycle: {engine_check_timeout_seconds: 0}", "command: null",
            "base_url: https://h/v1\n    lifecycle: {mode: monitored}",
            "base_url: http://[::1]:1\n    lifecycle: {mode: external}",
        ],
    )  # fmt: skip
    def test_what_is_allowed_is_accepted(self, world: World, line: str) -> None:
        world.user(f"providers:\n  vllm:\n    {line}\n")
        assert world.load().sources == (world.user_file,)

    @pytest.mark.spec("FR-042")
    def test_utilization_zero_is_valid_configuration(self, world: World) -> None:
        world.environ["ACODE_VLLM_GPU_MEMORY_UTILIZATION"] = "0.0"
        assert world.load().options.gpu.memory_utilization == 0.0

    @pytest.mark.parametrize(
        "text",
        ["8_000", "0x1f40", "8000.0", "+-8000", "\u0668\u0660\u0660\u0660", "8000 8001", "nan", "1e4", "9" * 5000],
    )
    def test_a_number_in_the_environment_is_clean(self, world: World, text: str) -> None:
        world.environ["VLLM_PORT"] = text
        assert len(world.mistakes()) == 1

    @pytest.mark.parametrize("text", ["inf", "nan", "-1", "1e999", "0x1", "1_0", "", "9" * 400])
    def test_a_time_in_the_environment_is_finite(self, world: World, text: str) -> None:
        world.environ["ACODE_VLLM_START_TIMEOUT_SECONDS"] = text
        if text:
            assert len(world.mistakes()) == 1

    def test_settings_that_contradict_each_other_are_mistakes(self, world: World) -> None:
        world.user(
            section(
                "env: {CUDA_VISIBLE_DEVICES: '0', HF_HUB_OFFLINE: '0'}\ngpu: {device_map: [0], tensor_parallel_size: 2}"
            )
        )
        lines = world.mistakes(mode="airgapped")
        assert [line.split(" ")[0] for line in lines] == [
            "providers.vllm.env.CUDA_VISIBLE_DEVICES",
            "providers.vllm.gpu.device_map",
            "providers.vllm.env.HF_HUB_OFFLINE",
        ]
        assert all(f"{world.user_file}:3" in line for line in lines[::2])

    def test_text_of_a_hostile_file_cannot_move_the_cursor(self, world: World) -> None:
        world.project(section('"\\e[2Jx": 1\nmodel: "a\\e[31m\\u202e"\nenv: {"\\e[1m": "x"}'))
        for line in world.mistakes():
            assert line.isprintable()


class TestSecrets:
    TOKEN = "hf_" + "Zq9" * 12

    def test_they_come_from_the_environment(self, world: World) -> None:
        world.environ |= {"HF_TOKEN": f" {self.TOKEN}\n", "VLLM_API_KEY": "key-1", "HUGGING_FACE_HUB_TOKEN": "other"}
        secrets = world.load().secrets
        assert (secrets.hf_token, secrets.api_key) == (self.TOKEN, "key-1")
        del world.environ["HF_TOKEN"]
        assert world.load().secrets.hf_token == "other"

    def test_no_text_shows_them(self, world: World) -> None:
        world.environ |= {"HF_TOKEN": self.TOKEN, "VLLM_API_KEY": "geheim!"}
        configuration = world.load()
        for text in (repr(configuration), repr(configuration.secrets), str(configuration)):
            assert self.TOKEN not in text
            assert "geheim!" not in text

    @pytest.mark.parametrize(
        "line",
        [
            "extra_args: [--api-key, geheim!]", "extra_args: --api-key=geheim!", "extra_args: [--hf-token, geheim!]",
            "extra_args: --api_key geheim!", "extra_args: [--password, geheim!]", "env: {HF_TOKEN: geheim!}",
            "api_key: geheim!",
            "env: {MY_API_KEY: geheim!}", "command: docker run --api-key geheim! x", "hf_token: geheim!",
            "command: [env, VLLM_API_KEY=geheim!, vllm]", "base_url: http://u:geheim!@h/",
            "lifecycle: {token: geheim!}",
            "hf_aaaaaaaaaaaaaaaaaaaaageheim: 1",
            "port: geheim!", "model: geheim!", "host: geheim!", "dtype: geheim!", "gpu: geheim!",
        ],
    )  # fmt: skip
    def test_in_a_file_they_are_refused_without_being_shown(self, world: World, line: str) -> None:
        world.environ["VLLM_API_KEY"] = "geheim!"
        world.user(section(line))
        assert "geheim!" not in "\n".join(world.mistakes())
        del world.environ["VLLM_API_KEY"]
        if not line.startswith(("port", "model", "host", "dtype", "gpu")):
            assert "geheim" not in "\n".join(world.mistakes())

    def test_a_token_that_no_header_could_carry_is_refused_without_being_shown(self, world: World) -> None:
        world.environ["HF_TOKEN"] = "geheim\r\nX-Evil: 1"
        (line,) = world.mistakes()
        assert line.startswith("HF_TOKEN (environment HF_TOKEN)")
        assert "geheim" not in line


class TestOptionsMadeByHand:
    @pytest.mark.spec("FR-041", "FR-042")
    def test_the_same_table_checks_them(self) -> None:
        options = VllmLifecycleOptions(
            port=80,
            start_timeout_seconds=0,
            base_url="http://h",
            gpu=GpuOptions(memory_utilization=1.5),
            server=ServerOptions(extra_args=("--port", "1")),
        )
        problem = options_problems("gpt2", options)
        assert problem is not None
        assert problem.code == "ACODE-VLM-010"
        keys = [line.split(" ")[0] for line in problem.evidence]
        assert keys == [
            "providers.vllm.model",
            "providers.vllm.port",
            "providers.vllm.extra_args[0]",
            "providers.vllm.lifecycle.start_timeout_seconds",
            "providers.vllm.gpu.memory_utilization",
        ]

    def test_good_ones_have_no_problem(self) -> None:
        assert options_problems("org/name", VllmLifecycleOptions()) is None
        assert options_problems("/models/x", VllmLifecycleOptions(start_timeout_seconds=1)) is None

    @pytest.mark.parametrize(
        "options",
        [
            VllmLifecycleOptions(mode="external"),  # type: ignore[arg-type]
            VllmLifecycleOptions(server=ServerOptions(command="vllm serve")),  # type: ignore[arg-type]
            VllmLifecycleOptions(server=ServerOptions(extra_args=["--enforce-eager"])),  # type: ignore[arg-type]
            VllmLifecycleOptions(gpu=GpuOptions(device_map=(0,))),  # type: ignore[arg-type]
            VllmLifecycleOptions(gpu=None),  # type: ignore[arg-type]
            VllmLifecycleOptions(server=object()),  # type: ignore[arg-type]
            VllmLifecycleOptions(base_url="http://h"),
            None,
        ],
    )
    def test_values_of_the_wrong_type_are_refused_and_never_crash(self, options: VllmLifecycleOptions) -> None:
        assert options_problems("org/name", options) is not None


def test_a_problem_is_a_configuration_error(world: World) -> None:
    with pytest.raises(ConfigurationError, match="one mistake"):
        world.load(port="x")
