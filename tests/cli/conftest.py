"""Fixtures of the tests of the command."""

from __future__ import annotations

from service_fixtures import model, other_model, port

__all__ = ["model", "other_model", "port"]
