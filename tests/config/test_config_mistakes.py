from __future__ import annotations

import pytest

from acode_vllm.config.validation import options_problems
from acode_vllm.vocabulary.errors import ConfigurationError
from acode_vllm.vocabulary.options import GpuOptions, ServerOptions, VllmLifecycleOptions

from .conftest import World, section


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

    @pytest.mark.spec("FR-034", "FR-041", "FR-042", "AC-024", "AC-026", "AC-027")
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

    def test_metrics_on_the_server_s_own_port_are_a_mistake(self, world: World) -> None:
        world.user(section("port: 8001\nmetrics_port: 8001"))
        (line,) = world.mistakes()
        assert line.startswith("providers.vllm.metrics_port = 8001")

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
