"""What a broker without an authorizer, quotas and users answers when it is asked about them.

Goal: admin programs that look before they show find out, as they do with Apache Kafka, whose codes
these are.
"""

from __future__ import annotations

import pytest
from kbroker.base import errors
from kbroker.wire import apis
from kbroker.wire.schema.create_acls import AclCreation, CreateAclsRequest
from kbroker.wire.schema.delete_acls import DeleteAclsFilter, DeleteAclsRequest
from kbroker.wire.schema.describe_acls import DescribeAclsRequest
from kbroker.wire.schema.describe_client_quotas import ComponentData, DescribeClientQuotasRequest
from kbroker.wire.schema.describe_user_scram_credentials import (
    DescribeUserScramCredentialsRequest,
    UserName,
)

from tests.broker.admin_support import Admin, run


@pytest.mark.parametrize("version", range(1, 4))
def test_access_rules(version: int) -> None:
    async def test() -> None:
        admin = await Admin.open()
        described = await admin.call(apis.DESCRIBE_ACLS, version, DescribeAclsRequest())
        created = await admin.call(
            apis.CREATE_ACLS, version, CreateAclsRequest(creations=[AclCreation()] * 2)
        )
        deleted = await admin.call(
            apis.DELETE_ACLS, version, DeleteAclsRequest(filters=[DeleteAclsFilter()] * 2)
        )
        for answer in (described, *created.results, *deleted.filter_results):
            assert answer.error_code == errors.SECURITY_DISABLED and answer.error_message
        assert len(created.results) == len(deleted.filter_results) == 2

    run(test)


@pytest.mark.parametrize("version", range(2))
@pytest.mark.parametrize(
    ("types", "code"),
    [
        ([], errors.NONE),
        (["user", "client-id", "ip"], errors.NONE),
        (["user", "planet"], errors.UNSUPPORTED_VERSION),
        ([""], errors.INVALID_REQUEST),
    ],
)
def test_quotas(types: list[str], code: int, version: int) -> None:
    async def test() -> None:
        components = [ComponentData(entity_type=name, match_type=2, match=None) for name in types]
        request = DescribeClientQuotasRequest(components=components)
        admin = await Admin.open()
        answer = await admin.call(apis.DESCRIBE_CLIENT_QUOTAS, version, request)
        assert answer.error_code == code and not answer.entries

    run(test)


@pytest.mark.parametrize(
    ("users", "expected"),
    [
        (None, {}),
        ([], {}),
        (["x", ""], {"x": errors.RESOURCE_NOT_FOUND, "": errors.RESOURCE_NOT_FOUND}),
        (["x", "x"], {"x": errors.DUPLICATE_RESOURCE}),
    ],
)
def test_users(users: list[str] | None, expected: dict[str, int]) -> None:
    async def test() -> None:
        named = None if users is None else [UserName(name=name) for name in users]
        request = DescribeUserScramCredentialsRequest(users=named)
        admin = await Admin.open()
        answer = await admin.call(apis.DESCRIBE_USER_SCRAM_CREDENTIALS, 0, request)
        assert answer.error_code == errors.NONE
        assert {result.user: result.error_code for result in answer.results} == expected

    run(test)
