"""The sampler lets go of the drivers exactly once, whenever it is closed."""

from __future__ import annotations

import threading

from acode_vllm.vocabulary.gpus import GpuDevice
from acode_vllm.workers.gpu.sampler import GpuSampler
from acode_vllm.workers.gpu.source import Reading

GPU = GpuDevice(0, "GPU-1", "A100", "nvidia", 80, 10, 70)


class SlowDriver:
    """Answers when the test lets it."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.may_answer = threading.Event()
        self.closed = threading.Event()

    def read(self) -> Reading:
        assert not self.closed.is_set()
        self.asked.set()
        assert self.may_answer.wait(10)
        return Reading((GPU,), "nvml")

    def close(self) -> None:
        self.closed.set()


def test_closing_while_a_driver_keeps_a_sample_does_not_wait_and_the_sample_closes_it() -> None:
    driver = SlowDriver()
    sampler = GpuSampler([driver])
    thread = threading.Thread(target=sampler.sample)
    thread.start()
    assert driver.asked.wait(10)
    sampler.close()
    assert not driver.closed.is_set()
    driver.may_answer.set()
    assert driver.closed.wait(10)
    thread.join(10)


def test_a_closed_sampler_opens_no_driver_again() -> None:
    driver = SlowDriver()
    sampler = GpuSampler([driver])
    sampler.close()
    assert driver.closed.is_set()
    assert sampler.sample().error == "the sampler is closed"
    assert not driver.asked.is_set()


def test_sources_after_the_first_that_shows_devices_are_not_asked() -> None:
    first, second = SlowDriver(), SlowDriver()
    first.may_answer.set()
    assert GpuSampler([first, second]).sample().devices == (GPU,)
    assert not second.asked.is_set()
