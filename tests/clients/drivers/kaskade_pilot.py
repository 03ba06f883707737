"""Kaskade, a terminal UI, used as somebody at a keyboard uses it. Runs in the UI's own environment.

    python kaskade_pilot.py BOOTSTRAP TOPIC

TOPIC exists and has records. Prints one JSON object of what was on the screen. Only keys are
pressed; the widgets are read, never called.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

from kaskade.admin import KaskadeAdmin
from kaskade.consumer import KaskadeConsumer
from kaskade.deserializers import Deserialization
from textual.widgets import DataTable

MADE = "made-at-the-keyboard"
SIZE = (180, 50)
WAIT_S = 60.0
LOOK_S = 0.05
UNKNOWN, LOADING = "\N{EM DASH}", "\N{HORIZONTAL ELLIPSIS}"


async def until(pilot: Any, seen: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not seen():
            await pilot.pause(LOOK_S)


def rows(app: Any, selector: str) -> list[list[str]]:
    table = app.screen.query_one(selector, DataTable)
    return [[str(cell) for cell in table.get_row_at(i)] for i in range(table.row_count)]


def topics(app: Any) -> dict[str, list[str]]:
    return {row[0]: row[1:] for row in rows(app, "#topics-table")}


async def administer(bootstrap: str, topic: str) -> dict[str, Any]:
    app = KaskadeAdmin({"bootstrap.servers": bootstrap}, refresh_interval=0)
    seen: dict[str, Any] = {}
    async with app.run_test(size=SIZE) as pilot:

        def is_complete(name: str) -> bool:
            """Its numbers are there, not the dots and dashes that stand for them."""
            shown = "".join(topics(app).get(name, [UNKNOWN])) if at_top() else UNKNOWN
            return UNKNOWN not in shown and LOADING not in shown

        def at_top() -> bool:
            return len(app.screen_stack) == 1

        async def press(*keys: str) -> None:
            await pilot.pause()
            if app.focused is None:
                await pilot.press("tab")
            await pilot.press(*keys)

        await until(pilot, lambda: is_complete(topic))
        seen["listed"] = topics(app)[topic]

        await press("n")
        await until(pilot, lambda: not at_top())
        await press(*MADE, "ctrl+s")
        await until(pilot, lambda: is_complete(MADE))
        seen["made"] = topics(app)[MADE]

        await press("slash")
        await until(pilot, lambda: not at_top())
        await press(*MADE, "enter")
        await until(pilot, lambda: at_top() and list(topics(app)) == [MADE])
        await press("d")
        await until(pilot, lambda: not at_top())
        seen["described"] = [
            [str(cell) for cell in table.get_row_at(i)]
            for table in app.screen.query(DataTable)
            for i in range(table.row_count)
        ]
        await press("escape")
        await until(pilot, at_top)

        await press("ctrl+d")
        await until(pilot, lambda: not at_top())
        await press(*MADE, "enter")
        await until(pilot, lambda: at_top() and not topics(app))
        await press("escape")
        await until(pilot, lambda: topic in topics(app))
        seen["left"] = sorted(topics(app))
        seen["complaints"] = [
            notification.message
            for notification in app._notifications
            if notification.severity != "information"
        ]
    return seen


async def consume(bootstrap: str, topic: str) -> list[list[str]]:
    app = KaskadeConsumer(
        topic,
        {"bootstrap.servers": bootstrap, "auto.offset.reset": "earliest"},
        {}, {}, {}, Deserialization.STRING, Deserialization.STRING,
    )  # fmt: skip
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: bool(rows(app, "#records-table")))
        return rows(app, "#records-table")


async def main(bootstrap: str, topic: str) -> None:
    seen = await administer(bootstrap, topic)
    seen["records"] = await consume(bootstrap, topic)
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
