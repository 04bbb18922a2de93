"""The model: its files, the Hugging Face cache and hub, and how far its load has come.

May import: acode_vllm.vocabulary, acode_vllm.supervisor, acode_vllm.workers.messages, acode_vllm.workers.vllm,
    acode_vllm.workers.diagnosis.
"""
