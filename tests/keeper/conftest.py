"""Fixtures of the tests of a whole service; see `service_fixtures`."""

from service_fixtures import model, other_model, port, service

__all__ = ["model", "other_model", "port", "service"]
