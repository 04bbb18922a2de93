"""How flags, environment and files become one checked configuration.

May import: acode_vllm.vocabulary, acode_vllm.settings, acode_vllm.records, acode_vllm.workers.messages.
"""
