"""One file for each command, and what they share: the session, the parser, the signals.

May import: everything but acode_vllm.cli itself.
"""
