"""Listener addresses as Kafka writes them: `NAME://host:port`, a list, one name once.

An empty host means every IPv4 address of the machine. Ports may be 0 (the system picks a free one)
in `listeners`, which is why the broker, not this file, finishes what it advertises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kbroker.base.config_types import ConfigError

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_LOOPBACK_NAMES = ("localhost", "::1")
_EVERY_INTERFACE = ("", "0.0.0.0", "::")


class Endpoint(NamedTuple):
    """One address of one listener. `protocol` is one of PROTOCOLS."""

    listener: str
    host: str
    port: int
    protocol: str

    @property
    def is_loopback(self) -> bool:
        # Digits only: 127.example.com is a name, and may be any address.
        return self.host in _LOOPBACK_NAMES or (
            self.host.startswith("127.") and self.host.replace(".", "").isdecimal()
        )

    @property
    def is_every_interface(self) -> bool:
        return self.host in _EVERY_INTERFACE

    def __str__(self) -> str:
        return f"{self.listener}://{join_host_port(self.host, self.port)}"


def join_host_port(host: str, port: int) -> str:
    """`host:port`, with the brackets an IPv6 address needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_host_port(text: str) -> tuple[str, int]:
    """The reverse of join_host_port; ValueError when it is not such a pair."""
    host, colon, port_text = text.rpartition(":")
    if not colon or not port_text.isdecimal() or int(port_text) > 65535:
        raise ValueError(text)
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], int(port_text)
    if ":" in host or "/" in host or any(char.isspace() for char in host):
        raise ValueError(text)
    return host, int(port_text)


def parse_protocol_map(key: str, text: str) -> dict[str, str]:
    """`NAME:PROTOCOL,...` -> protocol by listener name."""
    found: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, colon, protocol = pair.partition(":")
        name, protocol = name.strip().upper(), protocol.strip().upper()
        if not colon or not name or protocol not in PROTOCOLS:
            raise ConfigError(
                f"{key} = {text!r}: {pair!r} must be NAME:PROTOCOL with one of "
                + ", ".join(PROTOCOLS)
            )
        if name in found:
            raise ConfigError(f"{key} = {text!r}: {name} is mapped twice")
        found[name] = protocol
    return found


def parse_listeners(
    key: str, items: Sequence[str], protocols: Mapping[str, str], *, skip: Sequence[str] = ()
) -> tuple[Endpoint, ...]:
    """The endpoints of a listener list; names in `skip` (KRaft controllers') are left out."""
    found: list[Endpoint] = []
    for item in items:
        name, separator, address = item.partition("://")
        name = name.strip().upper()
        if not separator or not name:
            raise ConfigError(f"{key} = {item!r}: must be NAME://host:port")
        try:
            host, port = split_host_port(address.strip())
        except ValueError:
            raise ConfigError(
                f"{key} = {item!r}: must be NAME://host:port with a port from 0 to 65535"
            ) from None
        if not host.isascii():
            raise ConfigError(f"{key} = {item!r}: the host must be ASCII (xn--...)")
        if name in skip:
            continue
        if name not in protocols:
            raise ConfigError(
                f"{key} = {item!r}: {name} has no entry in listener.security.protocol.map"
            )
        if any(endpoint.listener == name for endpoint in found):
            raise ConfigError(f"{key}: the listener name {name} is there twice")
        found.append(Endpoint(name, host, port, protocols[name]))
    return tuple(found)
