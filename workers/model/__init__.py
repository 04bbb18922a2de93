"""The model: its files, the Hugging Face cache and hub, and the progress of a load.

May import: acode_vllm.vocabulary, acode_vllm.supervisor, acode_vllm.workers.messages, acode_vllm.workers.vllm,
    acode_vllm.workers.diagnosis.
"""
