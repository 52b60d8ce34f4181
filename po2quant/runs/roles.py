"""Which process of a search does what, and where they meet; checked before anything is run."""

from __future__ import annotations

import socket
from pathlib import Path

CHIEF, WORKER = "chief", "worker"
ROLES = (CHIEF, WORKER)
THIS_MACHINE = "127.0.0.1:0"
"""A free port, which other machines do not reach."""


def parse_address(address: str) -> tuple[str, int]:
    """Return host and port of ``host:port``."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(f"--oracle must be host:port, such as 192.168.0.10:7777. Received: {address!r}")
    return host, int(port)


def check_options(workers: int | None, role: str | None, oracle: str | None, output_dir: Path | None) -> None:
    """Raise ValueError for options of ``po2quant search`` that do not go together."""
    if workers is not None and workers < 1:
        raise ValueError(f"--workers must be at least 1. Received: {workers}")
    if workers is not None and (role or oracle):
        raise ValueError("--workers runs a chief and its workers here: it must stand without --role and --oracle")
    if role is not None and role not in ROLES:
        raise ValueError(f"--role must be one of {', '.join(ROLES)}. Received: {role!r}")
    if (role is None) != (oracle is None):
        raise ValueError("--role chief or worker and --oracle host:port, where the chief listens, must stand together")
    if oracle is not None:
        parse_address(oracle)
        if role == CHIEF:
            _check_can_listen(oracle)
    if role == WORKER and output_dir is None:
        raise ValueError("--role worker needs --output-dir: the chief's run folder, on a file system that both share")


def _check_can_listen(address: str) -> None:
    """Raise ValueError where nothing can listen at an address, before hours are spent on a float network."""
    host, port = parse_address(address)
    try:
        family, *_, place = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        socket.create_server(place, family=family).close()
    except OSError as error:
        raise ValueError(
            f"--oracle of a chief must be a free port of this machine. Received: {address} ({error})"
        ) from None
