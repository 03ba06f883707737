"""What a handler is told about the request it serves. One small object a request, no globals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcore._native.request import RequestContext as NativeContext

if TYPE_CHECKING:
    from kbroker.broker.services import Services
    from kbroker.broker.session import Session

    class RequestContext(NativeContext):
        """The native one, which knows no types of the broker."""

        @property
        def services(self) -> Services: ...
        @property
        def session(self) -> Session | None: ...

else:
    RequestContext = NativeContext

__all__ = ["ANONYMOUS", "RequestContext"]

ANONYMOUS = "User:ANONYMOUS"
