"""What the workers say to each other: frozen dataclasses, one file for each worker that hears them.

May import: acode_vllm.vocabulary.
"""
