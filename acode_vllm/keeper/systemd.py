"""Tells systemd how a service of type ``notify`` fares: sd_notify(3), a datagram to the socket in ``NOTIFY_SOCKET``."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Where nobody wants to know, every method does nothing. Used by one thread.

    Attributes:
        watchdog_seconds: How often `alive` is expected, as half of what systemd allows; None where it is not.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_seconds = _watchdog_seconds(environ) if self._address is not None else None

    def ready(self) -> None:
        """The service is up, or has read its configuration again."""
        self._send("READY=1")

    def reloading(self, monotonic: float) -> None:
        """It reads its configuration again, until `ready`; ``monotonic``: the time, in seconds."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={monotonic * 1e6:.0f}")

    def stopping(self) -> None:
        """It is about to end."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """What it does, in one line."""
        self._send("STATUS=" + " ".join(text.split()))

    def alive(self) -> None:
        """It has proved that it is not stuck."""
        self._send("WATCHDOG=1")

    def more_time(self, seconds: float) -> None:
        """Whatever it is about goes on: systemd is to wait so much longer from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={seconds * 1e6:.0f}")

    def _send(self, text: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(text.encode(), self._address)
        except OSError:
            return  # who does not listen learns nothing: no reason for a service to fail


def _address(path: str) -> str | None:
    if path.startswith("@"):
        return "\0" + path[1:]
    return path if path.startswith("/") else None


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """Half of the time, as sd_watchdog_enabled(3) advises; None where it is meant for another process."""
    if environ.get("WATCHDOG_PID", "") not in ("", str(os.getpid())):
        return None
    text = environ.get("WATCHDOG_USEC", "")
    return int(text) / 2e6 if text.isascii() and text.isdigit() and int(text) > 0 else None
