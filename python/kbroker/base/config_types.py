"""What a configuration key is: a name, a type, a default, a bound, a line of documentation.

`declare(...)` makes a `Key`, a class attribute from which everything else follows: typed attribute
access on the frozen config objects, parsing and its error messages, the DescribeConfigs answer and
the table in docs/configuration.md. A key is declared once and known nowhere else.

Text is the only form a value has outside (files, environment, wire, metadata store); the typed form
exists only inside a config object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, IntEnum
from typing import Any, Generic, NamedTuple, TypeVar, overload

T = TypeVar("T")
D = TypeVar("D")

INT_MIN, INT_MAX = -(1 << 31), (1 << 31) - 1
LONG_MIN, LONG_MAX = -(1 << 63), (1 << 63) - 1


class ConfigError(ValueError):
    """Values that are not allowed. The text names each key, its value and what is allowed."""


class WireType(IntEnum):
    """Type numbers of DescribeConfigs v3+."""

    UNKNOWN = 0
    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7
    CLASS = 8
    PASSWORD = 9


class ConfigSource(IntEnum):
    """Where a value comes from, in DescribeConfigs numbers; lower ones win over higher ones."""

    UNKNOWN = 0
    TOPIC = 1
    DYNAMIC_BROKER = 2
    DYNAMIC_DEFAULT_BROKER = 3
    STATIC_BROKER = 4
    DEFAULT = 5
    DYNAMIC_LOGGER = 6
    CLIENT_METRICS = 7
    GROUP = 8


class UpdateMode(Enum):
    """How a broker key may change: only by a restart, for one broker, or for all of them."""

    READ_ONLY = "read-only"
    PER_BROKER = "per-broker"
    CLUSTER_WIDE = "cluster-wide"


class Importance(Enum):
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class ConfigSynonym(NamedTuple):
    """One place a value could come from; the first of an entry's synonyms is the one that acts."""

    name: str
    value: str | None
    source: ConfigSource


class ConfigEntry(NamedTuple):
    """One key as DescribeConfigs shows it. `value` is None when null or sensitive."""

    name: str
    value: str | None
    source: ConfigSource
    read_only: bool
    sensitive: bool
    synonyms: tuple[ConfigSynonym, ...]
    type: WireType
    doc: str


class ValueType(Generic[T]):
    """A type of values: its wire number, how an error calls it, text to value and back."""

    __slots__ = ("format", "label", "parse", "wire")

    def __init__(
        self,
        wire: WireType,
        label: str,
        parse: Callable[[str], T],
        format: Callable[[Any], str],
    ) -> None:
        self.wire = wire
        self.label = label
        self.parse = parse
        self.format = format


class Validator(NamedTuple):
    """A bound on parsed values; `allowed` completes the sentence "must be ..."."""

    allowed: str
    check: Callable[[Any], bool]


def _parse_bool(text: str) -> bool:
    lowered = text.lower()
    if lowered not in ("true", "false"):
        raise ValueError(text)
    return lowered == "true"


def _parse_bounded(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        # int() alone would take "1_000", which no Kafka does.
        if not text.lstrip("+-").isdecimal() or not text.isascii():
            raise ValueError(text)
        value = int(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return parse


def _parse_double(text: str) -> float:
    value = float(text)
    if "_" in text or value != value:
        raise ValueError(text)
    return value


def _parse_list(text: str) -> tuple[str, ...]:
    if not text.strip():
        return ()
    items = tuple(item.strip() for item in text.split(","))
    if "" in items:
        raise ValueError(text)
    return items


BOOLEAN: ValueType[bool] = ValueType(
    WireType.BOOLEAN, "true or false", _parse_bool, lambda value: "true" if value else "false"
)
STRING: ValueType[str] = ValueType(WireType.STRING, "a string", str, str)
PASSWORD: ValueType[str] = ValueType(WireType.PASSWORD, "a password", str, str)
SHORT: ValueType[int] = ValueType(
    WireType.SHORT, "an integer of 16 bits", _parse_bounded(-(1 << 15), (1 << 15) - 1), str
)
INT: ValueType[int] = ValueType(
    WireType.INT, "an integer of 32 bits", _parse_bounded(INT_MIN, INT_MAX), str
)
LONG: ValueType[int] = ValueType(
    WireType.LONG, "an integer of 64 bits", _parse_bounded(LONG_MIN, LONG_MAX), str
)
DOUBLE: ValueType[float] = ValueType(WireType.DOUBLE, "a number", _parse_double, repr)
LIST: ValueType[tuple[str, ...]] = ValueType(
    WireType.LIST, "a comma-separated list", _parse_list, ",".join
)


def at_least(low: float) -> Validator:
    return Validator(f"at least {low}", lambda value: bool(value >= low))


def between(low: float, high: float) -> Validator:
    return Validator(f"from {low} to {high}", lambda value: bool(low <= value <= high))


def one_of(*names: str) -> Validator:
    return Validator(f"one of {', '.join(names)}", lambda value: value in names)


def list_of(*names: str, empty: bool = False) -> Validator:
    """A list of distinct members of `names`."""
    return Validator(
        f"a list of {', '.join(names)}" + ("" if empty else ", not empty"),
        lambda value: (
            (empty or bool(value))
            and len(set(value)) == len(value)
            and all(item in names for item in value)
        ),
    )


class Fallback(NamedTuple):
    """Another key that gives this one its value when this one is not set, in another unit.

    A value below zero means "no limit" in every unit, so it becomes -1 instead of being scaled.
    """

    name: str
    factor: int = 1

    def scale(self, value: Any) -> Any:
        if self.factor == 1 or not isinstance(value, int):
            return value
        return -1 if value < 0 else value * self.factor


class Key(Generic[T]):
    """One declared key. On the class it is itself; on a config object it is the typed value.

    It has no `__set__`, so the value in the object's own dict is found first: an attribute read
    costs what any attribute read costs.
    """

    __slots__ = (
        "acts",
        "attr",
        "broker_key",
        "default",
        "doc",
        "fallbacks",
        "importance",
        "mode",
        "name",
        "type",
        "validator",
    )

    def __init__(
        self,
        name: str,
        type: ValueType[Any],
        default: Any,
        validator: Validator | None,
        doc: str,
        importance: Importance,
        mode: UpdateMode,
        fallbacks: tuple[Fallback, ...],
        broker_key: str | None,
        acts: bool,
    ) -> None:
        self.name = name
        self.attr = name.replace(".", "_")
        self.type = type
        self.default = default
        self.validator = validator
        self.doc = doc
        self.importance = importance
        self.mode = mode
        self.fallbacks = fallbacks
        self.broker_key = broker_key
        self.acts = acts

    def __set_name__(self, owner: type, attr: str) -> None:
        if attr != self.attr:
            raise TypeError(f"key {self.name} must be the attribute {self.attr}, not {attr}")

    @overload
    def __get__(self, obj: None, owner: type) -> Key[T]: ...
    @overload
    def __get__(self, obj: object, owner: type) -> T: ...
    def __get__(self, obj: object | None, owner: type) -> Key[T] | T:
        if obj is None:
            return self
        raise AttributeError(self.attr)

    @property
    def sensitive(self) -> bool:
        return self.type.wire is WireType.PASSWORD

    @property
    def allowed(self) -> str:
        """What a value must be, to complete "must be ..."."""
        if self.validator is None:
            return self.type.label
        if self.type.wire in (WireType.STRING, WireType.LIST):
            return self.validator.allowed
        return f"{self.type.label}, {self.validator.allowed}"

    def parse(self, text: str) -> T:
        """The typed value of `text`, or a ConfigError that says what is allowed."""
        text = text.strip()
        try:
            value: T = self.type.parse(text)
        except ValueError:
            raise self._refusal(text) from None
        if self.validator is not None and not self.validator.check(value):
            raise self._refusal(text)
        return value

    def takes(self, text: str) -> bool:
        """Whether `parse` would."""
        try:
            self.parse(text)
        except ConfigError:
            return False
        return True

    def format(self, value: T) -> str | None:
        return None if value is None else self.type.format(value)

    def shown(self, text: str | None) -> str | None:
        """`text` as it may leave the process: a secret never does."""
        return None if self.sensitive else text

    def _refusal(self, text: str) -> ConfigError:
        shown = "[hidden]" if self.sensitive else repr(text)
        return ConfigError(f"{self.name} = {shown}: must be {self.allowed}")


@overload
def declare(
    name: str,
    type: ValueType[T],
    default: T,
    validator: Validator | None = None,
    *,
    doc: str,
    importance: Importance = ...,
    mode: UpdateMode = ...,
    fallbacks: tuple[Fallback, ...] = ...,
    broker_key: str | None = ...,
    acts: bool = ...,
) -> Key[T]: ...
@overload
def declare(
    name: str,
    type: ValueType[T],
    default: None,
    validator: Validator | None = None,
    *,
    doc: str,
    importance: Importance = ...,
    mode: UpdateMode = ...,
    fallbacks: tuple[Fallback, ...] = ...,
    broker_key: str | None = ...,
    acts: bool = ...,
) -> Key[T | None]: ...
def declare(
    name: str,
    type: ValueType[Any],
    default: Any,
    validator: Validator | None = None,
    *,
    doc: str,
    importance: Importance = Importance.MEDIUM,
    mode: UpdateMode = UpdateMode.READ_ONLY,
    fallbacks: tuple[Fallback, ...] = (),
    broker_key: str | None = None,
    acts: bool = True,
) -> Key[Any]:
    """Declares a key as a class attribute whose name is the key's with underscores.

    `fallbacks` are the keys of other units (`log.retention.hours` for `log.retention.ms`).
    `broker_key` is, for a topic key, the broker key it inherits from. `acts=False` says that the
    key is known and checked but changes nothing yet, which the documentation and a warning tell.
    """
    return Key(name, type, default, validator, doc, importance, mode, fallbacks, broker_key, acts)


def keys_of(cls: type) -> dict[str, Key[Any]]:
    """Every key declared on `cls` and its bases, by name, sorted."""
    found = {
        key.name: key
        for base in reversed(cls.__mro__)
        for key in vars(base).values()
        if isinstance(key, Key)
    }
    return dict(sorted(found.items()))


def nearest_name(name: str, names: Mapping[str, object]) -> str | None:
    """The known name a typing error most likely meant."""
    import difflib  # only when somebody mistyped: it is not worth its import otherwise

    matches = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return matches[0] if matches else None


def unknown_key(name: str, keys: Mapping[str, Key[Any]]) -> str:
    """The sentence about a key that nobody declared."""
    nearest = nearest_name(name, keys)
    return f"unknown configuration key {name}" + (f": did you mean {nearest}?" if nearest else "")
