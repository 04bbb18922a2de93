"""The command line and environment that a vLLM gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from acode_vllm.vocabulary.errors import ConfigurationError, InstallationError
from acode_vllm.vocabulary.options import GpuOptions, ServerOptions, VllmLifecycleOptions
from acode_vllm.vocabulary.server_process import ProcessIdentity, ServerProcess
from acode_vllm.workers.vllm import launch
from acode_vllm.workers.vllm.command import VllmCommand
from acode_vllm.workers.vllm.launch import Launched, build_plan, read_command_line

COMMAND = VllmCommand(("/venv/bin/python", "-m", "m"), Path("/venv/bin/python"), "test")
SERVE = VllmCommand(("/venv/bin/vllm", "serve"), None, "test")


def plan(tmp_path, model="org/model", environ=None, command=COMMAND, **options):
    more = {name: options.pop(name) for name in ("api_key", "prepared_env", "adopt") if name in options}
    return build_plan(
        model,
        VllmLifecycleOptions(**options),
        environ={"PATH": "/usr/bin"} if environ is None else environ,
        folder=tmp_path,
        log_path=tmp_path / "vllm.log",
        command=command,
        **more,
    )


def value_of(argv, flag):
    assert argv.count(flag) == 1
    return argv[argv.index(flag) + 1]


@pytest.mark.parametrize("command", [COMMAND, SERVE])
@pytest.mark.parametrize("name", [None, "short"])
def test_the_command_line_of_a_plan_can_be_read_again(tmp_path, command, name):
    server = ServerOptions(served_model_name=name, extra_args=("--port", "1"))
    argv = plan(tmp_path, port=9001, command=command, server=server).argv
    assert read_command_line(argv) == Launched("org/model", name or "org/model", "127.0.0.1", 9001)
    assert read_command_line(("/usr/bin/python3", *argv)) == read_command_line(argv)
    assert read_command_line(("sleep", "60")) is None


class TestArguments:
    @pytest.mark.spec("FR-008", "FR-009", "AC-002", "AC-004")
    def test_model_port_and_host_are_always_given(self, tmp_path):
        argv = plan(tmp_path, port=9001).argv
        assert value_of(argv, "--model") == "org/model"
        assert value_of(argv, "--port") == "9001"
        assert value_of(argv, "--host") == "127.0.0.1"

    @pytest.mark.spec("FR-028", "AC-028")
    def test_the_gpu_memory_utilization_is_always_given(self, tmp_path):
        assert value_of(plan(tmp_path).argv, "--gpu-memory-utilization") == "0.9"
        argv = plan(tmp_path, gpu=GpuOptions(memory_utilization=0.5)).argv
        assert value_of(argv, "--gpu-memory-utilization") == "0.5"

    @pytest.mark.spec("FR-011", "FR-029", "FR-030", "AC-029", "IT-006")
    def test_parallel_sizes_are_given_where_they_are_set(self, tmp_path):
        argv = plan(tmp_path, gpu=GpuOptions(tensor_parallel_size=2, pipeline_parallel_size=3)).argv
        assert value_of(argv, "--tensor-parallel-size") == "2"
        assert value_of(argv, "--pipeline-parallel-size") == "3"

    def test_a_cpu_build_is_given_what_a_cpu_needs_and_other_builds_are_not(self, tmp_path, monkeypatch):
        monkeypatch.setattr(launch, "lacks_bfloat16", lambda: True)
        site = tmp_path / "lib/python3.11/site-packages"
        (site / "vllm").mkdir(parents=True)
        (site / "vllm/__init__.py").touch()
        (site / "torch").mkdir()
        (tmp_path / "pyvenv.cfg").touch()
        command = VllmCommand(("/x/vllm", "serve"), tmp_path / "bin/python", "test")
        for version, added in (("2.13.0+cpu", True), ("2.13.0+cu129", False)):
            cuda = "" if added else "cuda = '12.9'\n"
            (site / "torch/version.py").write_text(f"__version__ = '{version}'\n{cuda}")
            argv = plan(tmp_path, command=command).argv
            assert ("--enforce-eager" in argv, "float32" in argv) == (added, added)
        argv = plan(tmp_path, command=command, environ={"VLLM_TARGET_DEVICE": "cpu"}).argv
        assert value_of(argv, "--dtype") == "float32"
        argv = plan(
            tmp_path, command=command, environ={"VLLM_TARGET_DEVICE": "cpu"}, server=ServerOptions(dtype="half")
        ).argv
        assert value_of(argv, "--dtype") == "half"

    @pytest.mark.spec("FR-031")
    def test_what_is_not_set_is_left_to_vllm(self, tmp_path):
        argv = plan(tmp_path).argv
        for flag in ("--tensor-parallel-size", "--pipeline-parallel-size", "--quantization", "--dtype"):
            assert flag not in argv
        assert "--max-model-len" not in argv
        assert "--served-model-name" not in argv

    def test_the_rest_is_passed_on_and_extra_arguments_come_last(self, tmp_path):
        server = ServerOptions(
            served_model_name="chat", max_model_len=4096, dtype="float32", quantization="awq", extra_args=("--x", "y")
        )
        made = plan(tmp_path, server=server)
        assert value_of(made.argv, "--max-model-len") == "4096"
        assert value_of(made.argv, "--dtype") == "float32"
        assert value_of(made.argv, "--quantization") == "awq"
        assert value_of(made.argv, "--served-model-name") == "chat"
        assert made.argv[-2:] == ("--x", "y")
        assert made.served_name == "chat"

    def test_vllm_serve_takes_the_model_by_position(self, tmp_path):
        argv = plan(tmp_path, command=SERVE).argv
        assert argv[:3] == ("/venv/bin/vllm", "serve", "org/model")
        assert "--model" not in argv

    @pytest.mark.spec("AC-027")
    def test_a_memory_utilization_of_0_is_refused_at_start_with_its_reason(self, tmp_path):
        with pytest.raises(ConfigurationError) as caught:
            plan(tmp_path, gpu=GpuOptions(memory_utilization=0.0))
        assert caught.value.code == "ACODE-VLM-010"
        assert "memory_utilization is 0.0" in str(caught.value)


class TestEnvironment:
    @pytest.mark.spec("FR-014", "AC-011")
    def test_the_token_is_in_the_environment_and_nowhere_else(self, tmp_path):
        made = plan(tmp_path, environ={"PATH": "/usr/bin", "HF_TOKEN": "hf_secret"}, api_key="key-secret")
        assert made.env["HF_TOKEN"] == "hf_secret"
        assert made.env["VLLM_API_KEY"] == "key-secret"
        assert "secret" not in repr(made)
        assert not any("secret" in argument for argument in made.argv)

    @pytest.mark.spec("FR-010")
    def test_our_own_variables_do_not_reach_vllm(self, tmp_path):
        environ = {"VLLM_PORT": "9000", "VLLM_MODEL": "m", "ACODE_VLLM_PORT": "1", "ACODE_MODE": "burst", "VLLM_X": "1"}
        made = plan(tmp_path, environ=environ)
        assert set(made.env) == {"VLLM_X", "PATH"}

    def test_a_key_that_is_not_ours_to_use_does_not_reach_vllm(self, tmp_path):
        assert "VLLM_API_KEY" not in plan(tmp_path, environ={"VLLM_API_KEY": "x"}).env

    def test_the_users_variables_come_before_the_inherited_and_the_look_at_the_model_last(self, tmp_path):
        made = plan(
            tmp_path,
            environ={"A": "inherited", "B": "inherited", "C": "inherited"},
            server=ServerOptions(env={"B": "user", "C": "user"}),
            prepared_env={"C": "prepared"},
        )
        assert (made.env["A"], made.env["B"], made.env["C"]) == ("inherited", "user", "prepared")

    @pytest.mark.spec("FR-006")
    def test_a_device_map_limits_what_vllm_sees(self, tmp_path):
        made = plan(tmp_path, gpu=GpuOptions(device_map=("1", "3")))
        assert made.env["CUDA_VISIBLE_DEVICES"] == "1,3"
        assert made.env["HIP_VISIBLE_DEVICES"] == "1,3"
        assert "CUDA_VISIBLE_DEVICES" not in plan(tmp_path).env

    def test_the_tools_beside_the_interpreter_are_on_path_once(self, tmp_path):
        assert plan(tmp_path).env["PATH"] == "/venv/bin:/usr/bin"
        assert plan(tmp_path, environ={"PATH": "/a:/venv/bin"}).env["PATH"] == "/a:/venv/bin"


class TestAdoption:
    SERVER = ServerProcess(ProcessIdentity(1, 1, ""), "m", ("/old/vllm",), "org/model", "org/model", 1, "/log", 0, 0.0)

    def test_a_running_server_can_be_adopted_where_vllm_is_no_longer_found(self, tmp_path, monkeypatch):
        monkeypatch.setattr("acode_vllm.workers.vllm.command.build_of", lambda interpreter: None)
        made = plan(tmp_path, adopt=self.SERVER, command=None, gpu=GpuOptions(memory_utilization=0.0))
        assert made.argv == ("/old/vllm",)
        assert made.adopt == self.SERVER

    def test_a_start_is_refused_where_vllm_is_not_found(self, tmp_path, monkeypatch):
        monkeypatch.setattr("acode_vllm.workers.vllm.command.build_of", lambda interpreter: None)
        with pytest.raises(InstallationError):
            plan(tmp_path, command=None)
