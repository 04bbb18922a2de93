"""Fixtures of the tests of processes; see `process_fixtures`."""

from process_fixtures import child, edges, grown, helpers, plan, roll, run, script

__all__ = ["child", "edges", "grown", "helpers", "plan", "roll", "run", "script"]
