"""Fetching a model from the hub: resumed, checked by its digest, and one download at a time.

May import: acode_vllm.vocabulary, acode_vllm.control, acode_vllm.workers.
"""
