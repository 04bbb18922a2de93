"""Reading vLLM's counters from Prometheus text."""

from __future__ import annotations

from acode_vllm.workers.health.engine_counters import EngineCounters, parse_counters

LABELS = b'{engine="0",model_name="acode/tiny-hello"}'


def test_labels_of_any_kind_and_neighbours_with_longer_names_are_tolerated() -> None:
    text = (
        b"# HELP vllm:generation_tokens_total Number of generation tokens processed.\n"
        b'vllm:num_requests_running{engine="0",model_name="a } 99 b"} 2.0\n'
        b"vllm:num_requests_waiting" + LABELS + b" 1.0\n"
        b'vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 7.0\n'
        b"vllm:prompt_tokens_total 47\n"
        b"vllm:prompt_tokens_created" + LABELS + b" 1.7953508520185044e+09\n"
        b"vllm:generation_tokens_total" + LABELS + b" 4.42e+02 1795350852018\n"
        b'vllm:iteration_tokens_total_bucket{engine="0",le="1.0"} 12.0\n'
    )
    assert parse_counters(text) == EngineCounters(2, 1, 47, 442)


def test_the_engines_of_one_server_are_summed() -> None:
    text = b"".join(
        b'vllm:%s{engine="%d"} %d\n' % (name, engine, engine + 1)
        for engine in range(3)
        for name in (b"num_requests_running", b"prompt_tokens_total", b"generation_tokens_total")
    )
    assert parse_counters(text) == EngineCounters(6, 0, 6, 6)


def test_text_without_vllms_counters_and_numbers_that_are_none_are_no_counters() -> None:
    assert parse_counters(b"") is None
    assert parse_counters(b"python_info 1.0\n<html>\xff\xfe") is None
    assert parse_counters(b"vllm:generation_tokens_total NaN\n") is None
    assert parse_counters(b"vllm:generation_tokens_total many\n") is None


def test_progress_is_counted_from_zero_after_a_restart() -> None:
    assert EngineCounters(0, 0, 10, 20).progress_since(EngineCounters(0, 0, 8, 15)) == 7
    assert EngineCounters(0, 0, 1, 2).progress_since(EngineCounters(0, 0, 8, 15)) == 3
