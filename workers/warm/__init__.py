"""Warm starts: vLLM is imported once, by a fork server in its own interpreter, and forked for each start.

May import: acode_vllm.vocabulary, acode_vllm.supervisor, acode_vllm.workers.messages, acode_vllm.workers.machine,
    acode_vllm.workers.vllm.
"""
