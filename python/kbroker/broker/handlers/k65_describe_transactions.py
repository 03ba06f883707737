"""DescribeTransactions (65), version 0: the state of transactional ids (KIP-664).

There are none yet: each one asked for is TRANSACTIONAL_ID_NOT_FOUND.
ACLs: Describe on the transactional id.
"""

from __future__ import annotations

from kbroker.base import errors
from kbroker.broker.context import RequestContext
from kbroker.broker.registry import handles
from kbroker.wire import apis
from kbroker.wire.schema.describe_transactions import (
    DescribeTransactionsRequest,
    DescribeTransactionsResponse,
    TransactionState,
)


@handles(apis.DESCRIBE_TRANSACTIONS, 0, 0)
def handle(ctx: RequestContext, req: DescribeTransactionsRequest) -> DescribeTransactionsResponse:
    return DescribeTransactionsResponse(
        transaction_states=[
            TransactionState(
                transactional_id=transactional_id, error_code=errors.TRANSACTIONAL_ID_NOT_FOUND
            )
            for transactional_id in dict.fromkeys(req.transactional_ids)
        ]
    )
