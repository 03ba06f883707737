"""InitProducerId: fresh ids without a transactional id, a no that clients end at with one."""

from __future__ import annotations

from pathlib import Path

import pytest
from kbroker.base import errors
from kbroker.wire import apis
from kbroker.wire.schema.init_producer_id import InitProducerIdRequest

from tests.broker.data_support import DataBroker


@pytest.mark.parametrize("version", range(7))
def test_ids(tmp_path: Path, version: int) -> None:
    broker = DataBroker(tmp_path)
    request = InitProducerIdRequest(transactional_id=None)
    first = broker.call(apis.INIT_PRODUCER_ID, version, request)
    second = broker.call(apis.INIT_PRODUCER_ID, version, request)
    assert (first.error_code, first.producer_epoch) == (0, 0)
    assert first.producer_id != second.producer_id
    for transactional_id, code in (
        ("t", errors.TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        ("", errors.INVALID_REQUEST),
    ):
        request = InitProducerIdRequest(transactional_id=transactional_id)
        refused = broker.call(apis.INIT_PRODUCER_ID, version, request)
        assert (refused.error_code, refused.producer_id, refused.producer_epoch) == (code, -1, -1)
    broker.close()
