"""The messages between workers: frozen dataclasses, one file per receiving worker.

May import: acode_vllm.vocabulary.
"""
