"""Patterns of `subscribed_topic_regex`: RE2 syntax, as Kafka's brokers read it, in bounded time.

The engine is RE2 itself (`google-re2`), not Python's `re` behind a filter: it accepts what Kafka's
RE2J accepts, it is linear in the length of a name whatever the pattern (no client can stall the
loop with `(a+)+$`), and its memory is bounded. It is imported with the first pattern.

What a pattern matches depends on the names of the topics and nothing else, so groups look it up
when the metadata changed, and not by a timer. Internal topics match no pattern, as no
`ConsumerPartitionAssignor` of the classic protocol gives them to a pattern by default: a group that
read its own commits would feed itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from kbroker.base import errors
from kbroker.base.errors import KafkaError

PATTERN_CHARS_MAX: Final = 4096
_MEMORY_BYTES_MAX: Final = 1 << 20
_COMPILED_MAX: Final = 256
_INTERNAL: Final = frozenset({"__consumer_offsets", "__transaction_state", "__share_group_state"})


def check_pattern(pattern: str) -> None:
    """KafkaError INVALID_REGULAR_EXPRESSION when it is none."""
    _compiled(pattern)


def match_topics(pattern: str, names: Iterable[str]) -> frozenset[str]:
    """The names that `pattern` matches from end to end. A stored pattern that this engine does not
    read, which a newer broker may have written, matches nothing."""
    try:
        matches = _compiled(pattern).fullmatch
    except KafkaError:
        return frozenset()
    return frozenset(name for name in names if name not in _INTERNAL and matches(name))


@lru_cache(_COMPILED_MAX)
def _compiled(pattern: str) -> Any:
    if len(pattern) > PATTERN_CHARS_MAX:
        raise _invalid(pattern[:64] + "...", f"longer than {PATTERN_CHARS_MAX} characters")
    try:
        import re2
    except ImportError:
        raise _invalid(pattern, "the google-re2 package is not installed") from None
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY_BYTES_MAX
    try:
        return re2.compile(pattern, options=options)
    except (re2.error, UnicodeEncodeError) as error:
        said = error.args[0] if error.args else ""
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        raise _invalid(pattern, text) from None


def _invalid(pattern: str, why: str) -> KafkaError:
    return KafkaError(
        errors.INVALID_REGULAR_EXPRESSION,
        f"SubscribedTopicRegex `{pattern}` is not a valid regular expression: {why}.",
    )
