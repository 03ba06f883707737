"""Commits as a coordinator gets and answers them: through the bytes of their version."""

from __future__ import annotations

from typing import Any

from kbroker.wire import apis, messages
from kbroker.wire.schema.offset_commit import OffsetCommitRequest, OffsetCommitResponse

from kcore._native.offset_commit import OffsetCommits, parse_offset_commit

CORRELATION_ID = 7


def parsed(request: OffsetCommitRequest, version: int = 9) -> OffsetCommits:
    body = messages.encode_request(apis.OFFSET_COMMIT, version, request)
    return parse_offset_commit(body, 0, version)


def told(commits: OffsetCommits) -> OffsetCommitResponse:
    frame = commits.encode_answer(CORRELATION_ID)
    flexible = messages.has_flexible_header(apis.OFFSET_COMMIT, commits.version)
    response: Any = messages.decode_response(
        apis.OFFSET_COMMIT, commits.version, frame, 9 if flexible else 8
    )
    assert isinstance(response, OffsetCommitResponse)
    return response
