"""What is said of a service on request: the status as data, ``acode doctor``, the bug report.

May import: acode_vllm.io, acode_vllm.vocabulary, acode_vllm.records, acode_vllm.supervisor, acode_vllm.workers.
"""
