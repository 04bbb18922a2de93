"""A process in Erlang's sense: a thread, its mailbox, and its end.

It knows nothing of supervisors; they are processes too, and build on this room.

May import: the standard library.
"""
