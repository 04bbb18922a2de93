"""Fixtures of the tests of the preflight; see `preflight_fixtures`."""

from preflight_fixtures import llama, nvml_folder, vllm

__all__ = ["llama", "nvml_folder", "vllm"]
