"""Fixtures of the fault suite: services on the stand-in server."""

from __future__ import annotations

from service_fixtures import model, other_model, port, service

__all__ = ["model", "other_model", "port", "service"]
