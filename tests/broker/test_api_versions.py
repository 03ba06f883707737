"""Goal: ApiVersions tells what is registered, in a form every client finds its way through.

Method: the handler behind the real registry and dispatcher, answers read by the wire codec.
"""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest
from kbroker.base import errors
from kbroker.base.config import BrokerConfig
from kbroker.base.limits import CLIENT_SOFTWARE_MAX
from kbroker.base.metrics import BrokerMetrics
from kbroker.broker import registry
from kbroker.broker.context import RequestContext
from kbroker.broker.dispatch import CloseConnection, Dispatcher
from kbroker.wire import apis, messages
from kbroker.wire.schema.api_versions import ApiVersionsRequest

KEY = apis.API_VERSIONS


class Rig:
    def __init__(self, **static: str) -> None:
        self.metrics = BrokerMetrics()
        self.registry = registry.load()
        self.services: Any = SimpleNamespace(
            answers={},
            registry=self.registry,
            metrics=self.metrics,
            config=BrokerConfig({name.replace("_", "."): text for name, text in static.items()}),
        )
        self.dispatcher = Dispatcher(self.registry, self.metrics.request)

    def ask(self, version: int, body: bytes | None = None, session: Any = None) -> Any:
        if body is None:
            body = messages.encode_request(
                KEY,
                version,
                ApiVersionsRequest(client_software_name="app", client_software_version="1.0"),
            )
        ctx = RequestContext(KEY, version, 99, "me", session, self.services, "User:x", "P", 0)
        row = self.dispatcher.row(KEY, version)
        answer: Any = self.dispatcher.begin(row, ctx, memoryview(bytearray(body)), 0)
        frame = b"".join(answer)
        assert struct.unpack_from(">ii", frame) == (len(frame) - 4, 99)
        return frame[8:]


@pytest.mark.parametrize("version", range(5))
def test_every_version_lists_what_is_registered(version: int) -> None:
    rig = Rig()
    for _ in range(2):  # the second answer is the kept one
        response = messages.decode_response(KEY, version, memoryview(rig.ask(version)), 0)
        assert response.error_code == 0
        told = [(api.api_key, api.min_version, api.max_version) for api in response.api_keys]
        assert told == rig.registry.advertised()


def test_ranges_are_those_that_clients_switch_features_on_by() -> None:
    told = {key: (lowest, highest) for key, lowest, highest in Rig().registry.advertised()}
    # librdkafka offers compression only where Produce includes 0, message format 2 only where
    # Produce includes 3 and Fetch 4, groups only where FindCoordinator includes 0.
    assert told[apis.PRODUCE] == (0, 13)
    assert told[apis.FETCH][0] == 4 and told[apis.METADATA] == (0, 13)
    assert told[apis.FIND_COORDINATOR][0] == 0 and told[apis.INIT_PRODUCER_ID][0] == 0
    assert told[apis.OFFSET_FOR_LEADER_EPOCH][0] == 2 and told[KEY] == (0, 4)


@pytest.mark.parametrize("version", range(5))
def test_the_group_version_is_told_where_the_consumer_protocol_is_offered(version: int) -> None:
    def ask(**static: str) -> Any:
        body = Rig(**static).ask(version)
        return messages.decode_response(KEY, version, memoryview(body), 0)

    told = ask()
    finalized = [
        (f.name, f.min_version_level, f.max_version_level) for f in told.finalized_features
    ]
    supported = [(f.name, f.min_version, f.max_version) for f in told.supported_features]
    assert finalized == ([("group.version", 1, 1)] if version >= 3 else [])
    assert told.finalized_features_epoch == (1 if version >= 3 else -1)
    # Clients of version 3 refuse a lowest version of 0.
    assert supported == ([("group.version", 0, 1)] if version >= 4 else [])
    classic_only = ask(group_coordinator_rebalance_protocols="classic")
    assert classic_only.finalized_features == classic_only.supported_features == []
    assert classic_only.finalized_features_epoch == -1


@pytest.mark.parametrize("version", [5, 9, 32767, -1])
def test_a_version_of_the_future_is_answered_in_version_0(version: int) -> None:
    body = Rig().ask(version, body=b"whatever a later version says")
    response = messages.decode_response(KEY, 0, memoryview(body), 0)
    assert response.error_code == errors.UNSUPPORTED_VERSION
    (own,) = response.api_keys
    assert (own.api_key, own.min_version, own.max_version) == (KEY, 0, 4)


@pytest.mark.parametrize("name", ["", "-app", "app-", "a b", "a\n", "x" * 200, "\u00e9"])
def test_a_client_without_a_proper_name_is_refused(name: str) -> None:
    rig = Rig()
    request = ApiVersionsRequest(client_software_name=name, client_software_version="1")
    body = rig.ask(3, messages.encode_request(KEY, 3, request))
    response = messages.decode_response(KEY, 3, memoryview(body), 0)
    assert response.error_code == errors.INVALID_REQUEST
    assert rig.metrics.client_software == {}


def test_clients_are_counted_once_a_connection_and_the_table_is_bounded() -> None:
    rig = Rig()
    session = SimpleNamespace(client_software=None)
    rig.ask(3, session=session)
    rig.ask(3, session=session)
    assert rig.metrics.client_software == {("app", "1.0"): 1}
    for n in range(CLIENT_SOFTWARE_MAX + 50):
        request = ApiVersionsRequest(client_software_name=f"a{n}", client_software_version="1")
        body = messages.encode_request(KEY, 3, request)
        rig.ask(3, body, session=SimpleNamespace(client_software=None))
    assert len(rig.metrics.client_software) == CLIENT_SOFTWARE_MAX


def test_a_malformed_body_closes() -> None:
    with pytest.raises(CloseConnection, match="malformed ApiVersions v3"):
        Rig().ask(3, b"\xff\xff")
