"""Keys of the metadata store. Whoever stores or watches something takes its key from here.

    cluster                          the cluster's id
    topics/<name>                    id, number of partitions, configuration: a topic exists when
                                     this key does, so it is what a creation writes last
    partitions/<topic id>/<index>    replicas, leader, ISR
    configs/brokers/<node id>        dynamic configuration of one broker; `default` for all
    configs/groups/<hash of its id>  a group's id and its dynamic configuration
    pid_block                        the first producer id not yet given to any broker

A topic's id is written in its 22 characters and an index in ten digits: the order of keys is the
order of indexes. A group's id may be any text of any length and a key may not: the id is in the
value, the key is named by its SHA-256. Values are JSON (`codec.py`).
"""

from __future__ import annotations

from kcore.files.topic_ids import decode_id, encode_id

CLUSTER = b"cluster"
TOPICS = b"topics/"
PARTITIONS = b"partitions/"
BROKER_CONFIGS = b"configs/brokers/"
GROUP_CONFIGS = b"configs/groups/"
PID_BLOCK = b"pid_block"

_DEFAULT_BROKER = "default"
_INDEX_DIGITS = 10


def topic_key(name: str) -> bytes:
    return TOPICS + name.encode("ascii")


def parse_topic_key(key: bytes) -> str:
    return key[len(TOPICS) :].decode("ascii")


def partition_key(topic_id: bytes, index: int) -> bytes:
    return PARTITIONS + f"{encode_id(topic_id)}/{index:0{_INDEX_DIGITS}d}".encode("ascii")


def parse_partition_key(key: bytes) -> tuple[bytes, int]:
    """(topic id, index); ValueError when it is not such a key."""
    id_text, _, index_text = key[len(PARTITIONS) :].decode("ascii").partition("/")
    return decode_id(id_text), int(index_text)


def broker_config_key(name: str) -> bytes:
    """`name` is a node id, or empty for every broker, as in DescribeConfigs."""
    return BROKER_CONFIGS + (name or _DEFAULT_BROKER).encode("ascii")


def parse_broker_config_key(key: bytes) -> str:
    name = key[len(BROKER_CONFIGS) :].decode("ascii")
    return "" if name == _DEFAULT_BROKER else name


def group_config_key(group_id: str) -> bytes:
    import hashlib  # most brokers have no configuration of a group, and start 2 ms sooner

    return GROUP_CONFIGS + hashlib.sha256(group_id.encode("utf-8")).hexdigest().encode("ascii")
