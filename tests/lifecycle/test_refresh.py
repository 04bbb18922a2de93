"""Who waits for figures of now, and what is looked at for them."""

from __future__ import annotations

from acode_vllm.workers.lifecycle.refresh import Look, Refreshing


def test_old_figures_are_taken_anew_and_then_answered() -> None:
    waiting = Refreshing()
    assert waiting.ask("a", 100.0, checkable=True, checked_at=90.0) == Look("a", check=True, sample=True)
    assert waiting.take() == []
    waiting.sampled(100.1)
    assert waiting.take() == []
    waiting.checked()
    assert waiting.take() == ["a"]
    assert waiting.take() == []


def test_figures_of_the_last_five_seconds_are_not_taken_again_however_many_ask() -> None:
    waiting = Refreshing()
    waiting.sampled(100.0)
    for asker in range(50):
        now = 100.0 + asker * 0.1
        assert waiting.ask(asker, now, checkable=True, checked_at=100.0) == Look(asker, check=False, sample=False)
        assert waiting.take() == [asker]
    assert waiting.ask("late", 105.1, checkable=True, checked_at=100.0) == Look("late", check=True, sample=True)


def test_a_server_that_cannot_be_checked_is_not_waited_for() -> None:
    waiting = Refreshing()
    assert waiting.ask("a", 1.0, checkable=False, checked_at=None) == Look("a", check=False, sample=True)
    waiting.sampled(1.0)
    assert waiting.take() == ["a"]


def test_each_waits_for_what_was_old_when_it_asked() -> None:
    waiting = Refreshing()
    waiting.sampled(99.0)
    waiting.ask("check", 100.0, checkable=True, checked_at=None)
    waiting.ask("both", 105.0, checkable=True, checked_at=None)
    waiting.checked()
    assert waiting.take() == ["check"]
    waiting.sampled(105.0)
    assert waiting.take() == ["both"]
