"""The command ``acode``: what it was asked for is read here, and run by `acode_vllm.cli.commands`.

May import: everything.
"""
