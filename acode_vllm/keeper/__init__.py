"""The program that keeps a service after the command that started it has ended, in the foreground or detached.

May import: acode_vllm.io, acode_vllm.vocabulary, acode_vllm.records, acode_vllm.control, acode_vllm.service,
    acode_vllm.supervisor, acode_vllm.workers.
"""
