"""The worker that owns vLLM's process tree: ends left-overs, spawns or adopts, waits, stops.

May import: acode_vllm.vocabulary, acode_vllm.supervisor, acode_vllm.workers.messages, acode_vllm.workers.machine,
    acode_vllm.workers.log, acode_vllm.workers.vllm, acode_vllm.workers.diagnosis, acode_vllm.workers.health.
"""
