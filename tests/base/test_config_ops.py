"""IncrementalAlterConfigs' operations on a set of overrides."""

from __future__ import annotations

import pytest
from kbroker.base.config import BrokerConfig, ConfigError, TopicConfig
from kbroker.base.config_ops import ConfigOp, OpType, apply_ops

INHERITED = TopicConfig(BrokerConfig())


def after(overrides: dict[str, str], *ops: ConfigOp) -> dict[str, str]:
    return apply_ops(TopicConfig.KEYS, overrides, ops, lambda key: getattr(INHERITED, key.attr))


def test_set_and_delete() -> None:
    assert after({}, ConfigOp(OpType.SET, "retention.ms", "5")) == {"retention.ms": "5"}
    assert after({"retention.ms": "5"}, ConfigOp(OpType.DELETE, "retention.ms", None)) == {}
    assert after({}, ConfigOp(OpType.DELETE, "retention.ms", None)) == {}


def test_append_starts_from_what_is_inherited() -> None:
    op = ConfigOp(OpType.APPEND, "cleanup.policy", "compact")
    assert after({}, op) == {"cleanup.policy": "delete,compact"}
    assert after({"cleanup.policy": "compact"}, op) == {"cleanup.policy": "compact"}


def test_subtract() -> None:
    op = ConfigOp(OpType.SUBTRACT, "cleanup.policy", "compact, delete")
    assert after({"cleanup.policy": "compact"}, op) == {"cleanup.policy": ""}


def test_the_overrides_given_are_not_changed() -> None:
    overrides = {"retention.ms": "5"}
    after(overrides, ConfigOp(OpType.SET, "retention.ms", "6"))
    assert overrides == {"retention.ms": "5"}


@pytest.mark.parametrize(
    ("op", "complaint"),
    [
        (ConfigOp(OpType.APPEND, "retention.ms", "1"), "retention.ms is not a list"),
        (ConfigOp(OpType.SUBTRACT, "retention.ms", "1"), "retention.ms is not a list"),
        (ConfigOp(OpType.SET, "retention.ms", None), "null value"),
        (ConfigOp(OpType.APPEND, "cleanup.policy", None), "null value"),
        (ConfigOp(OpType.SET, "retention.s", "1"), "did you mean retention.ms"),
        (ConfigOp(OpType.DELETE, "nothing", None), "unknown configuration key nothing"),
    ],
)
def test_refusals(op: ConfigOp, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        after({}, op)
