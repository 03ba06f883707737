"""What a handler is told about the request it serves. One small object a request, no globals."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kbroker.broker.services import Services
    from kbroker.broker.session import Session

ANONYMOUS = "User:ANONYMOUS"


class RequestContext:
    """`now_ms` is the wall clock when the wake-up that brought the request began: one reading for
    all requests of a wake-up. `session` is for identity and metrics; handlers do not write to it.
    """

    __slots__ = (
        "api_key",
        "api_version",
        "client_id",
        "correlation_id",
        "listener",
        "now_ms",
        "principal",
        "services",
        "session",
    )

    def __init__(
        self,
        api_key: int,
        api_version: int,
        correlation_id: int,
        client_id: str | None,
        session: Session | None,
        services: Services,
        principal: str,
        listener: str,
        now_ms: int,
    ) -> None:
        self.api_key = api_key
        self.api_version = api_version
        self.correlation_id = correlation_id
        self.client_id = client_id
        self.session = session
        self.services = services
        self.principal = principal
        self.listener = listener
        self.now_ms = now_ms
