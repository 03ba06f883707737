"""ListTransactions (66), versions 0 to 2: the transactional ids there are (KIP-664, 994, 1152).

There are none yet. Names of states that Kafka does not know are told, as by Kafka.
ACLs: Describe on each transactional id.
"""

from __future__ import annotations

from typing import Final

from kbroker.broker.context import RequestContext
from kbroker.broker.registry import handles
from kbroker.wire import apis
from kbroker.wire.schema.list_transactions import (
    ListTransactionsRequest,
    ListTransactionsResponse,
)

_STATES: Final = frozenset({
    "Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "Dead",
    "PrepareEpochFence",
})  # fmt: skip


@handles(apis.LIST_TRANSACTIONS, 0, 2)
def handle(ctx: RequestContext, req: ListTransactionsRequest) -> ListTransactionsResponse:
    unknown = dict.fromkeys(name for name in req.state_filters if name not in _STATES)
    return ListTransactionsResponse(unknown_state_filters=list(unknown))
