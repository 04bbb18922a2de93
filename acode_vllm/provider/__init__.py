"""Chat, completions and embeddings over a server that is made healthy first, carried over its restarts.

May import: acode_vllm.vocabulary.
"""
