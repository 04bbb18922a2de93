"""Reading and waiting: one wait for descriptors, with its wake-up, and one way to cut lines.

May import: the standard library.
"""
