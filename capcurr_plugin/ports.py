"""Ports that are chosen now and opened later by another process. Nobody shall get them by chance in between."""

from __future__ import annotations

import contextlib
import secrets
import socket
from pathlib import Path

FIRST, END = 20_000, 30_000  # Ray's workers have those from 10,002 on, Kubernetes' services those from 30,000 on
SEARCHED = 100
GIVEN_OUT = Path("/proc/sys/net/ipv4/ip_local_port_range")  # to connections and to who asks for any port


def quiet_ports() -> range | None:
    """Some that the system gives to nobody who does not name them, elsewhere each time; none where it gives all."""
    room = min(_lowest_given_out(), END) - FIRST - SEARCHED
    if room <= 0:
        return None
    start = FIRST + secrets.randbelow(room)  # a seeded dice would send all runs to the same
    return range(start, start + SEARCHED)


def free_port() -> int:
    for port in quiet_ports() or ():
        with contextlib.suppress(OSError):
            return _opened(port)
    return _opened(0)


def _opened(port: int) -> int:
    with socket.socket() as probe:
        probe.bind(("", port))
        return probe.getsockname()[1]


def _lowest_given_out() -> int:
    try:
        return int(GIVEN_OUT.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return END  # systems that do not tell begin higher
