"""What is not served says so, in words that a client can show, and is not advertised.

Goal: a client that asks without having looked at ApiVersions (kafka-go never looks) is told
UNSUPPORTED_VERSION, for each thing that it named; only what brokers ask each other closes the
connection. What is served without being there (logins, transactions to list) answers as Kafka does.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kbroker.base import errors
from kbroker.base.metrics import BrokerMetrics
from kbroker.broker import registry
from kbroker.broker.context import RequestContext
from kbroker.broker.dispatch import CloseConnection, Dispatcher
from kbroker.wire import apis, messages
from kbroker.wire.header import response_header
from kbroker.wire.schema import (
    add_partitions_to_txn,
    alter_client_quotas,
    alter_replica_log_dirs,
    alter_user_scram_credentials,
    describe_share_group_offsets,
    share_group_describe,
    streams_group_describe,
    txn_offset_commit,
    write_txn_markers,
)
from kbroker.wire.schema.describe_transactions import DescribeTransactionsRequest
from kbroker.wire.schema.list_transactions import ListTransactionsRequest
from kbroker.wire.schema.sasl_authenticate import SaslAuthenticateRequest
from kbroker.wire.schema.sasl_handshake import SaslHandshakeRequest

AMONG_BROKERS = {
    apis.VOTE, apis.BEGIN_QUORUM_EPOCH, apis.END_QUORUM_EPOCH, apis.ALTER_PARTITION, apis.ENVELOPE,
    apis.FETCH_SNAPSHOT, apis.BROKER_REGISTRATION, apis.BROKER_HEARTBEAT,
    apis.ALLOCATE_PRODUCER_IDS, apis.CONTROLLER_REGISTRATION, apis.ASSIGN_REPLICAS_TO_DIRS,
    apis.UPDATE_RAFT_VOTER,
    apis.INITIALIZE_SHARE_GROUP_STATE, apis.READ_SHARE_GROUP_STATE, apis.WRITE_SHARE_GROUP_STATE,
    apis.DELETE_SHARE_GROUP_STATE, apis.READ_SHARE_GROUP_STATE_SUMMARY,
}  # fmt: skip
REGISTRY = registry.load()
ADVERTISED = {key for key, _, _ in REGISTRY.advertised()}
NOT_SERVED = sorted(set(apis.APIS) - ADVERTISED)
FOR_CLIENTS = [
    (key, version)
    for key in NOT_SERVED
    if key not in AMONG_BROKERS
    for version in range(apis.APIS[key].first, apis.APIS[key].last + 1)
]


@pytest.fixture
def dispatcher() -> Dispatcher:
    return Dispatcher(REGISTRY, BrokerMetrics().request)


def ask(dispatcher: Dispatcher, key: int, version: int, request: Any) -> Any:
    services: Any = SimpleNamespace()
    ctx = RequestContext(key, version, 5, "me", None, services, "User:x", "PLAINTEXT", 0)
    body = memoryview(bytearray(messages.encode_request(key, version, request)))
    parts = dispatcher.begin(dispatcher.row(key, version), ctx, body, 0)
    frame = b"".join(bytes(part) for part in parts)
    return messages.decode_response(
        key, version, frame[4 + len(response_header(key, version, 5)) :]
    )


def codes(value: Any, version: int, field: str = "") -> list[int]:
    """Every error code that a message has in that version, at whatever depth."""
    if isinstance(value, list):
        return [code for item in value for code in codes(item, version, field)]
    if not hasattr(value, "FIELDS"):
        return [value] if field.endswith("error_code") else []
    names = [name for name, _, (first, last), *_ in value.FIELDS if first <= version <= last]
    return [code for name in names for code in codes(getattr(value, name), version, name)]


TOPIC = add_partitions_to_txn.AddPartitionsToTxnTopic(name="t", partitions=[0, 3])
FULL: dict[int, tuple[Any, int]] = {  # a request that names things, and how many
    apis.TXN_OFFSET_COMMIT: (
        txn_offset_commit.TxnOffsetCommitRequest(
            topics=[
                txn_offset_commit.TxnOffsetCommitRequestTopic(
                    name="t",
                    partitions=[txn_offset_commit.TxnOffsetCommitRequestPartition()] * 2,
                )
            ]
        ),
        2,
    ),
    apis.WRITE_TXN_MARKERS: (
        write_txn_markers.WriteTxnMarkersRequest(
            markers=[
                write_txn_markers.WritableTxnMarker(
                    topics=[
                        write_txn_markers.WritableTxnMarkerTopic(name="t", partition_indexes=[1, 2])
                    ]
                )
            ]
        ),
        2,
    ),
    apis.ALTER_REPLICA_LOG_DIRS: (
        alter_replica_log_dirs.AlterReplicaLogDirsRequest(
            dirs=[
                alter_replica_log_dirs.AlterReplicaLogDir(
                    path="/x",
                    topics=[
                        alter_replica_log_dirs.AlterReplicaLogDirTopic(name="t", partitions=[1, 2])
                    ],
                )
            ]
        ),
        2,
    ),
    apis.ALTER_CLIENT_QUOTAS: (
        alter_client_quotas.AlterClientQuotasRequest(
            entries=[alter_client_quotas.RequestEntryData()] * 3
        ),
        3,
    ),
    apis.ALTER_USER_SCRAM_CREDENTIALS: (
        alter_user_scram_credentials.AlterUserScramCredentialsRequest(
            deletions=[alter_user_scram_credentials.ScramCredentialDeletion(name="a")],
            upsertions=[
                alter_user_scram_credentials.ScramCredentialUpsertion(name=name)
                for name in ("a", "b")
            ],
        ),
        2,
    ),
    apis.SHARE_GROUP_DESCRIBE: (
        share_group_describe.ShareGroupDescribeRequest(group_ids=["a", "b"]),
        2,
    ),
    apis.STREAMS_GROUP_DESCRIBE: (
        streams_group_describe.StreamsGroupDescribeRequest(group_ids=["a", "b"]),
        2,
    ),
    apis.DESCRIBE_SHARE_GROUP_OFFSETS: (
        describe_share_group_offsets.DescribeShareGroupOffsetsRequest(
            groups=[
                describe_share_group_offsets.DescribeShareGroupOffsetsRequestGroup(group_id="a")
            ]
        ),
        1,
    ),
}


def request_for(key: int, version: int) -> tuple[Any, int]:
    if key != apis.ADD_PARTITIONS_TO_TXN:
        return FULL.get(key) or (messages.request_class(key)(), 1)
    if version < 4:
        request = add_partitions_to_txn.AddPartitionsToTxnRequest(v3_and_below_topics=[TOPIC])
        return request, 2
    transaction = add_partitions_to_txn.AddPartitionsToTxnTransaction(topics=[TOPIC])
    return add_partitions_to_txn.AddPartitionsToTxnRequest(transactions=[transaction]), 3


@pytest.mark.parametrize(("key", "version"), FOR_CLIENTS)
def test_a_client_is_told_of_each_thing_it_named(
    dispatcher: Dispatcher, key: int, version: int
) -> None:
    request, named = request_for(key, version)
    answer = ask(dispatcher, key, version, request)
    assert codes(answer, version) == [errors.UNSUPPORTED_VERSION] * named
    assert dispatcher.row(key, version).metrics.count == 1


@pytest.mark.parametrize("key", [key for key in NOT_SERVED if key in AMONG_BROKERS])
def test_what_brokers_ask_each_other_has_no_answer(dispatcher: Dispatcher, key: int) -> None:
    with pytest.raises(CloseConnection, match="is not served"):
        dispatcher.row(key, apis.APIS[key].last)


def test_a_version_that_nobody_knows_has_no_answer(dispatcher: Dispatcher) -> None:
    for version in (-1, apis.APIS[apis.END_TXN].last + 1):
        with pytest.raises(CloseConnection, match="EndTxn version"):
            dispatcher.row(apis.END_TXN, version)
    assert apis.END_TXN not in ADVERTISED


@pytest.mark.parametrize("version", range(2))
def test_a_handshake_finds_no_login(dispatcher: Dispatcher, version: int) -> None:
    answer = ask(dispatcher, apis.SASL_HANDSHAKE, version, SaslHandshakeRequest(mechanism="PLAIN"))
    assert (answer.error_code, answer.mechanisms) == (errors.ILLEGAL_SASL_STATE, [])


@pytest.mark.parametrize("version", range(3))
def test_a_login_finds_no_handshake(dispatcher: Dispatcher, version: int) -> None:
    request = SaslAuthenticateRequest(auth_bytes=b"\0u\0p")
    answer = ask(dispatcher, apis.SASL_AUTHENTICATE, version, request)
    assert answer.error_code == errors.ILLEGAL_SASL_STATE and "PLAINTEXT" in answer.error_message


@pytest.mark.parametrize("version", range(3))
def test_no_transactions_are_listed(dispatcher: Dispatcher, version: int) -> None:
    request = ListTransactionsRequest(state_filters=["Ongoing", "Asleep", "Asleep"])
    answer = ask(dispatcher, apis.LIST_TRANSACTIONS, version, request)
    assert (answer.error_code, answer.transaction_states) == (errors.NONE, [])
    assert answer.unknown_state_filters == ["Asleep"]


def test_no_transaction_is_described(dispatcher: Dispatcher) -> None:
    request = DescribeTransactionsRequest(transactional_ids=["a", "b", "a"])
    answer = ask(dispatcher, apis.DESCRIBE_TRANSACTIONS, 0, request)
    found = [(state.transactional_id, state.error_code) for state in answer.transaction_states]
    assert found == [(name, errors.TRANSACTIONAL_ID_NOT_FOUND) for name in ("a", "b")]
