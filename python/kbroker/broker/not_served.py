"""What a client is told that asks for an API of Kafka's which this broker does not have.

ApiVersions does not name these APIs, and a client that looks there first never asks. One that does
not look gets UNSUPPORTED_VERSION wherever the answer to its request has room for an error: a closed
connection would look like a broker that is down, and would be tried again. What only brokers and
controllers ask each other is not answered.

An answer names all that the request named. One that left a partition out would be read as success.
"""

from __future__ import annotations

from typing import Any, Final

from kbroker.base import errors
from kbroker.wire import apis, messages
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
from kbroker.wire.struct import Struct

CODE: Final = errors.UNSUPPORTED_VERSION
_WHY: Final = "This broker does not have this API."

# The answer has one error for all.
_WHOLE: Final = frozenset({
    apis.ADD_OFFSETS_TO_TXN, apis.END_TXN,
    apis.CREATE_DELEGATION_TOKEN, apis.RENEW_DELEGATION_TOKEN,
    apis.EXPIRE_DELEGATION_TOKEN, apis.DESCRIBE_DELEGATION_TOKEN,
    apis.DESCRIBE_QUORUM, apis.UPDATE_FEATURES, apis.UNREGISTER_BROKER,
    apis.ADD_RAFT_VOTER, apis.REMOVE_RAFT_VOTER,
    apis.GET_TELEMETRY_SUBSCRIPTIONS, apis.PUSH_TELEMETRY,
    apis.SHARE_GROUP_HEARTBEAT, apis.SHARE_FETCH, apis.SHARE_ACKNOWLEDGE,
    apis.ALTER_SHARE_GROUP_OFFSETS, apis.DELETE_SHARE_GROUP_OFFSETS,
    apis.STREAMS_GROUP_HEARTBEAT,
})  # fmt: skip


def is_for_clients(key: int) -> bool:
    """Whether `refusal` has an answer for that API."""
    return key in _WHOLE or key in _IN_PARTS


def refusal(key: int, request: Any) -> Struct:
    """The answer to a decoded request for an API that is not served."""
    if key in _IN_PARTS:
        return _IN_PARTS[key](request)
    response = messages.response_class(key)()
    response.error_code = CODE  # type: ignore[attr-defined]
    if hasattr(response, "error_message"):
        response.error_message = _WHY
    return response


def _add_partitions_to_txn(request: Any) -> Struct:
    m = add_partitions_to_txn

    def refused(topics: Any) -> list[m.AddPartitionsToTxnTopicResult]:
        return [
            m.AddPartitionsToTxnTopicResult(
                name=topic.name,
                results_by_partition=[
                    m.AddPartitionsToTxnPartitionResult(
                        partition_index=index, partition_error_code=CODE
                    )
                    for index in topic.partitions
                ],
            )
            for topic in topics
        ]

    return m.AddPartitionsToTxnResponse(
        error_code=CODE,
        results_by_topic_v3_and_below=refused(request.v3_and_below_topics),
        results_by_transaction=[
            m.AddPartitionsToTxnResult(
                transactional_id=transaction.transactional_id,
                topic_results=refused(transaction.topics),
            )
            for transaction in request.transactions
        ],
    )


def _txn_offset_commit(request: Any) -> Struct:
    m = txn_offset_commit
    return m.TxnOffsetCommitResponse(
        topics=[
            m.TxnOffsetCommitResponseTopic(
                name=topic.name,
                partitions=[
                    m.TxnOffsetCommitResponsePartition(
                        partition_index=partition.partition_index, error_code=CODE
                    )
                    for partition in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


def _write_txn_markers(request: Any) -> Struct:
    m = write_txn_markers
    return m.WriteTxnMarkersResponse(
        markers=[
            m.WritableTxnMarkerResult(
                producer_id=marker.producer_id,
                topics=[
                    m.WritableTxnMarkerTopicResult(
                        name=topic.name,
                        partitions=[
                            m.WritableTxnMarkerPartitionResult(
                                partition_index=index, error_code=CODE
                            )
                            for index in topic.partition_indexes
                        ],
                    )
                    for topic in marker.topics
                ],
            )
            for marker in request.markers
        ]
    )


def _alter_replica_log_dirs(request: Any) -> Struct:
    m = alter_replica_log_dirs
    return m.AlterReplicaLogDirsResponse(
        results=[
            m.AlterReplicaLogDirTopicResult(
                topic_name=topic.name,
                partitions=[
                    m.AlterReplicaLogDirPartitionResult(partition_index=index, error_code=CODE)
                    for index in topic.partitions
                ],
            )
            for directory in request.dirs
            for topic in directory.topics
        ]
    )


def _alter_client_quotas(request: Any) -> Struct:
    m = alter_client_quotas
    return m.AlterClientQuotasResponse(
        entries=[
            m.ResponseEntryData(error_code=CODE, error_message=_WHY, entity=entry.entity)
            for entry in request.entries
        ]
    )


def _alter_user_scram_credentials(request: Any) -> Struct:
    m = alter_user_scram_credentials
    users = dict.fromkeys(change.name for change in (*request.deletions, *request.upsertions))
    return m.AlterUserScramCredentialsResponse(
        results=[
            m.AlterUserScramCredentialsResult(user=user, error_code=CODE, error_message=_WHY)
            for user in users
        ]
    )


def _share_group_describe(request: Any) -> Struct:
    m = share_group_describe
    return m.ShareGroupDescribeResponse(
        groups=[
            m.DescribedGroup(group_id=group_id, error_code=CODE, error_message=_WHY)
            for group_id in request.group_ids
        ]
    )


def _streams_group_describe(request: Any) -> Struct:
    m = streams_group_describe
    return m.StreamsGroupDescribeResponse(
        groups=[
            m.DescribedGroup(group_id=group_id, error_code=CODE, error_message=_WHY)
            for group_id in request.group_ids
        ]
    )


def _describe_share_group_offsets(request: Any) -> Struct:
    m = describe_share_group_offsets
    return m.DescribeShareGroupOffsetsResponse(
        groups=[
            m.DescribeShareGroupOffsetsResponseGroup(
                group_id=group.group_id, error_code=CODE, error_message=_WHY
            )
            for group in request.groups
        ]
    )


_IN_PARTS: Final = {
    apis.ADD_PARTITIONS_TO_TXN: _add_partitions_to_txn,
    apis.TXN_OFFSET_COMMIT: _txn_offset_commit,
    apis.WRITE_TXN_MARKERS: _write_txn_markers,
    apis.ALTER_REPLICA_LOG_DIRS: _alter_replica_log_dirs,
    apis.ALTER_CLIENT_QUOTAS: _alter_client_quotas,
    apis.ALTER_USER_SCRAM_CREDENTIALS: _alter_user_scram_credentials,
    apis.SHARE_GROUP_DESCRIBE: _share_group_describe,
    apis.STREAMS_GROUP_DESCRIBE: _streams_group_describe,
    apis.DESCRIBE_SHARE_GROUP_OFFSETS: _describe_share_group_offsets,
}
