"""What the wire room raises.

`BadRequest` is the engine's own class, not a translation of it: the native codecs raise it and no
call pays for a second `try`. It is a ValueError with `field`, `pos`, `expected` and `found`.
"""

from __future__ import annotations

from kcore._native.wirebuf import WireError as BadRequest

__all__ = ["BadRequest", "UnsupportedApi"]


class UnsupportedApi(Exception):
    """No schema knows this API key, or not in this version."""

    def __init__(self, api_key: int, api_version: int) -> None:
        self.api_key = api_key
        self.api_version = api_version
        super().__init__(f"no schema for API key {api_key} in version {api_version}")
