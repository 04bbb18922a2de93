"""Is the server healthy? Its processes, its listener, its endpoints and its engine, checked at an interval.

May import: acode_vllm.io, acode_vllm.vocabulary, acode_vllm.supervisor, acode_vllm.workers.messages,
    acode_vllm.workers.machine, acode_vllm.workers.gpu.
"""
