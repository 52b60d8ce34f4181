"""Which process of a search does what, and where they meet."""

from __future__ import annotations

CHIEF, WORKER = "chief", "worker"
ROLES = (CHIEF, WORKER)
THIS_MACHINE = "127.0.0.1:0"
"""A free port, which other machines do not reach."""


def parse_address(address: str) -> tuple[str, int]:
    """Return host and port of ``host:port``."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(f"oracle must be host:port, such as 192.168.0.10:7777. Received: {address!r}")
    return host, int(port)
