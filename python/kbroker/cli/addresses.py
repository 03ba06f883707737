"""What --bootstrap may say. Pure.

The client takes nearly anything and then only finds that nobody answers, so a word that cannot be
an address is refused before.
"""

from __future__ import annotations

from kbroker.base.listeners import split_host_port

PORT = 9092  # where a word names none, as with the client


def parse_bootstrap(text: str) -> list[tuple[str, int]]:
    """HOST:PORT words with commas between them. ValueError with a sentence for whoever typed it."""
    found = []
    for word in text.split(","):
        address = word.strip().rpartition("://")[2]
        host_only = (address.startswith("[") and address.endswith("]")) or ":" not in address
        try:
            host, port = split_host_port(f"{address}:{PORT}" if host_only else address)
        except ValueError:
            host, port = "", 0
        if not host or not port:
            raise ValueError(f"{text!r} must be HOST:PORT, or several with commas between them")
        found.append((host, port))
    return found
