from __future__ import annotations

import pytest

from acode_vllm.vocabulary.states import OperatingMode

from .conftest import World

LOCK = "mode:\n  airgapped_lock: true\n"


def test_flag_then_environment_then_file_then_default(world: World) -> None:
    assert world.load().options.operating_mode is OperatingMode.LOCAL_ONLY
    world.project("mode: {default: airgapped}\n")
    assert world.load().options.operating_mode is OperatingMode.AIRGAPPED
    world.environ["ACODE_MODE"] = "LocalOnly"
    assert world.load().options.operating_mode is OperatingMode.LOCAL_ONLY
    assert world.load(mode="Burst").options.operating_mode is OperatingMode.BURST


@pytest.mark.parametrize(
    "text", ["mode: airgapped", "mode: {default: burst}", "mode: {default: x}", "mode: {default: }"]
)
def test_what_a_file_may_not_say_is_a_mistake(world: World, text: str) -> None:
    world.project(text)
    assert len(world.mistakes()) == 1


@pytest.mark.parametrize(
    "text", ["mode: {airgapped_lok: true}", "mode: {airgaped_lock: true}", "mode: {defualt: airgapped}"]
)
def test_a_misspelt_lock_is_not_passed_over(world: World, text: str) -> None:
    world.project(text)
    assert "did you mean" in world.mistakes()[0]


@pytest.mark.parametrize("where", ["project", "user"])
class TestLock:
    def lock(self, world: World, where: str, text: str = LOCK) -> str:
        path = world.project(text) if where == "project" else world.user(text)
        return f"{path}:2"

    def test_it_means_airgapped_whatever_the_default_says(self, world: World, where: str) -> None:
        place = self.lock(world, where, LOCK + "  default: local-only\n")
        configuration = world.load()
        assert configuration.options.operating_mode is OperatingMode.AIRGAPPED
        assert configuration.locked
        assert str(configuration.origins["mode.airgapped_lock"]) == place

    def test_the_environment_does_not_override_it_and_is_warned_of(self, world: World, where: str) -> None:
        place = self.lock(world, where)
        world.environ["ACODE_MODE"] = "local-only"
        configuration = world.load()
        assert configuration.options.operating_mode is OperatingMode.AIRGAPPED
        (warning,) = configuration.warnings
        assert place in warning

    def test_a_contrary_flag_is_a_mistake_that_says_who_locked(self, world: World, where: str) -> None:
        place = self.lock(world, where)
        (line,) = world.mistakes(mode="local-only")
        assert "flag --mode" in line
        assert place in line
        assert world.load(mode="airgapped").options.operating_mode is OperatingMode.AIRGAPPED

    def test_another_file_does_not_override_it(self, world: World, where: str) -> None:
        self.lock(world, where)
        other = world.repository / "other.yml"
        other.write_text("mode: {default: local-only, airgapped_lock: false}\n")
        assert world.load(config=str(other)).options.operating_mode is OperatingMode.AIRGAPPED
        world.environ["ACODE_CONFIG"] = str(other)
        assert world.load().options.operating_mode is OperatingMode.AIRGAPPED

    def test_the_other_file_does_not_unlock_it(self, world: World, where: str) -> None:
        self.lock(world, where)
        self.lock(world, "user" if where == "project" else "project", "mode:\n  airgapped_lock: false\n")
        assert world.load().options.operating_mode is OperatingMode.AIRGAPPED

    def test_breaking_the_file_does_not_get_round_it(self, world: World, where: str) -> None:
        self.lock(world, where, LOCK + "x: [\n")
        other = world.repository / "other.yml"
        other.write_text("")
        assert "not valid YAML" in world.mistakes(config=str(other))[0]
