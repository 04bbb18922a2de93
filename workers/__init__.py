"""The worker threads of the tree, and the mechanics that each of them owns.

Nothing is imported here, so that a command that needs one part pays for that part alone.
"""
