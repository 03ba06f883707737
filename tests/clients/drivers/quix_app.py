"""A Quix Streams application: a stateful, windowed computation. Runs in an environment of its own.

    python quix_app.py BOOTSTRAP NAME STATE_DIR START_MS FIRST COUNT

Makes COUNT readings from number FIRST on, a second apart with number 0 at START_MS, reads what its
group has not yet read, and prints one JSON object: the windows' sums (one a reading), and how many
readings each key has had in all, as its state tells. With an empty STATE_DIR the state comes back
from the changelog topics.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from quixstreams import Application

KEYS = 3
WINDOW_MS = 10_000


def main(bootstrap: str, name: str, state_dir: str, start_ms: str, first: str, count: str) -> None:
    app = Application(
        broker_address=bootstrap,
        consumer_group=name,
        auto_offset_reset="earliest",
        state_dir=state_dir,
        loglevel="WARNING",
        commit_interval=0.5,
    )
    source = app.topic(f"{name}-in", value_deserializer="json")
    target = app.topic(f"{name}-out", value_serializer="json")
    with app.get_producer() as producer:
        for number in range(int(first), int(first) + int(count)):
            message = source.serialize(
                key=f"sensor-{number % KEYS}",
                value={"reading": number},
                timestamp_ms=int(start_ms) + number * 1_000,
            )
            producer.produce(
                source.name, value=message.value, key=message.key, timestamp=message.timestamp
            )
    seen: dict[str, int] = {}

    def counted(value: dict[str, Any], key: bytes, *_: Any) -> None:
        seen[key.decode()] = value["so_far"]

    frame = app.dataframe(source)
    counting = frame.apply(lambda value, state: {**value, "so_far": so_far(state)}, stateful=True)
    counting = counting.update(counted, metadata=True)
    sums = counting.apply(lambda value: value["reading"]).tumbling_window(WINDOW_MS).sum().current()
    sums.to_topic(target)
    outputs = app.run(count=int(count), timeout=90, metadata=True)
    sys.stdout.write(json.dumps({"sums": [o["value"] for o in outputs], "so_far": seen}) + "\n")


def so_far(state: Any) -> int:
    number = int(state.get("so_far", 0)) + 1
    state.set("so_far", number)
    return number


if __name__ == "__main__":
    main(*sys.argv[1:])
