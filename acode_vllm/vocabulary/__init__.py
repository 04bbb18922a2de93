"""The words that everything else speaks: errors, states, options, events, status; and how they are shown and stored.

Leaves: they import one another and nothing else of ours.

May import: the standard library.
"""
