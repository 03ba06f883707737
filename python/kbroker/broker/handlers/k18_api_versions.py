"""ApiVersions (18), versions 0 to 4: what this broker serves, computed from the registry.

* A version of the future is answered in version 0 with UNSUPPORTED_VERSION and our own range, so
  that the client can step down (KIP-511). That is why the response header never has tags.
* v3: the client says who it is; a name or version outside the allowed characters is
  INVALID_REQUEST. Kept for metrics: which clients connect.
* v3: features (KIP-584): `group.version` 1, when the consumer protocol is offered. No
  `transaction.version` before transactions. v4 may tell of features whose lowest version is 0
  (KIP-1022); clients of v3 may reject them (KAFKA-17492), so these are told what is finalized only.

The answer is the same for every client of a broker: it is encoded once per version.
"""

from __future__ import annotations

import re
from struct import pack

from kbroker.base import errors
from kbroker.base.limits import CLIENT_SOFTWARE_MAX
from kbroker.broker.context import RequestContext
from kbroker.broker.registry import handles_raw
from kbroker.wire import apis, messages
from kbroker.wire.schema.api_versions import (
    ApiVersion,
    ApiVersionsResponse,
    FinalizedFeatureKey,
    SupportedFeatureKey,
)

_LAST = 4
_SOFTWARE_FROM = 3
_FEATURES_FROM = 3
_FEATURES_WITHOUT_MINIMUM_FROM = 4
_GROUP_VERSION = "group.version"  # 1: the consumer protocol
_FEATURES_EPOCH = 1  # what is finalized is a matter of the build and never changes
_SOFTWARE_TEXT = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")
_SOFTWARE_TEXT_MAX = 128


@handles_raw(apis.API_VERSIONS, 0, _LAST, pipelined=False)
def handle(ctx: RequestContext, frame: memoryview, pos: int) -> list[bytes]:
    version = ctx.api_version
    if not 0 <= version <= _LAST:
        own = ApiVersion(api_key=apis.API_VERSIONS, min_version=0, max_version=_LAST)
        refusal = ApiVersionsResponse(error_code=errors.UNSUPPORTED_VERSION, api_keys=[own])
        return _framed(ctx, messages.encode_response(apis.API_VERSIONS, 0, refusal))
    request = messages.decode_request(apis.API_VERSIONS, version, frame, pos)
    if version >= _SOFTWARE_FROM:
        name, release = request.client_software_name, request.client_software_version
        if not (_is_software_text(name) and _is_software_text(release)):
            refusal = ApiVersionsResponse(error_code=errors.INVALID_REQUEST)
            return _framed(ctx, messages.encode_response(apis.API_VERSIONS, version, refusal))
        _note_software(ctx, name, release)
    return _framed(ctx, _body(ctx, version))


def _body(ctx: RequestContext, version: int) -> bytes:
    answers = ctx.services.answers
    body = answers.get((apis.API_VERSIONS, version))
    if body is None:
        response = ApiVersionsResponse(
            api_keys=[
                ApiVersion(api_key=key, min_version=lowest, max_version=highest)
                for key, lowest, highest in ctx.services.registry.advertised()
            ]
        )
        if "consumer" in ctx.services.config.group_coordinator_rebalance_protocols:
            _add_group_version(response, version)
        body = messages.encode_response(apis.API_VERSIONS, version, response)
        answers[apis.API_VERSIONS, version] = body
    return body


def _add_group_version(response: ApiVersionsResponse, version: int) -> None:
    if version < _FEATURES_FROM:
        return
    if version >= _FEATURES_WITHOUT_MINIMUM_FROM:
        response.supported_features = [
            SupportedFeatureKey(name=_GROUP_VERSION, min_version=0, max_version=1)
        ]
    response.finalized_features_epoch = _FEATURES_EPOCH
    response.finalized_features = [
        FinalizedFeatureKey(name=_GROUP_VERSION, min_version_level=1, max_version_level=1)
    ]


def _framed(ctx: RequestContext, body: bytes) -> list[bytes]:
    return [pack(">ii", 4 + len(body), ctx.correlation_id) + body]


def _is_software_text(text: str) -> bool:
    return len(text) <= _SOFTWARE_TEXT_MAX and _SOFTWARE_TEXT.fullmatch(text) is not None


def _note_software(ctx: RequestContext, name: str, release: str) -> None:
    """Counts a connection once; the table is bounded because clients choose its keys."""
    session = ctx.session
    if session is None or session.client_software is not None:
        return
    session.client_software = (name, release)
    seen = ctx.services.metrics.client_software
    if (name, release) in seen or len(seen) < CLIENT_SOFTWARE_MAX:
        seen[name, release] = seen.get((name, release), 0) + 1
