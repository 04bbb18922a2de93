"""The worker threads of the service's tree, and the mechanics that each of them owns.

Each folder is a room with one concept; its docstring says what it is for and whom it may import. Nothing is imported
here, so a command that needs one part pays for that part alone.
"""
