"""One service of this machine as a program holds it: owned in this process, or by another that is asked.

May import: acode_vllm.vocabulary, acode_vllm.records, acode_vllm.control, acode_vllm.metrics, acode_vllm.supervisor,
    acode_vllm.workers.
"""
