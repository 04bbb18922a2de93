"""The figures of a service for Prometheus, and the worker that serves them.

May import: acode_vllm.io, acode_vllm.vocabulary, acode_vllm.records, acode_vllm.control, acode_vllm.report,
    acode_vllm.supervisor, acode_vllm.workers.messages, acode_vllm.workers.machine.
"""
