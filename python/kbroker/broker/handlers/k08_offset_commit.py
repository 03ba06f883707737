"""OffsetCommit (8), versions 2 to 10: how far a group has read.

* v2-v4: retention_time_ms, how long these offsets are kept. v6: leader epochs (KIP-320).
* v7: static members. v9: member epochs of the consumer protocol (KIP-848). v10: topic ids.

There is no error of the whole request: what stops all of it is told for each partition. ACLs: Read
on the group and on each topic.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from kbroker.base.errors import KafkaError
from kbroker.broker.context import RequestContext
from kbroker.broker.groups import later
from kbroker.broker.registry import handles_raw
from kbroker.coord.group.ops.commit import op_commit
from kbroker.coord.result import Answer
from kbroker.wire import apis
from kcore._native.offset_commit import OffsetCommits, parse_offset_commit


@handles_raw(apis.OFFSET_COMMIT, 2, 10, pipelined=False)
def handle(
    ctx: RequestContext, frame: memoryview, pos: int
) -> list[bytes] | Coroutine[Any, Any, list[bytes]]:
    commits = parse_offset_commit(frame, pos, ctx.api_version)
    try:
        told = ctx.services.groups.run(commits.group_id, lambda shard: op_commit(shard, commits))
    except KafkaError as refused:
        commits.refuse(refused.code)
    else:
        if isinstance(told, Answer):
            return _answer_later(ctx.correlation_id, commits, told)
    return [commits.encode_answer(ctx.correlation_id)]


async def _answer_later(
    correlation_id: int, commits: OffsetCommits, told: Answer[OffsetCommits]
) -> list[bytes]:
    try:
        await later(told)
    except KafkaError as refused:
        commits.refuse(refused.code)
    return [commits.encode_answer(correlation_id)]
