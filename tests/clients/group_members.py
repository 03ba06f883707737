"""Members of consumer groups for tests: where they run, what happened to them, waiting for it.

`Hosts` are the driver processes; `Group.join` puts a member into one, and `Group.wait` waits until
something is true of what the members have told. Nothing here looks at a clock except to give up.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Self

from tests.clients.driven import DrivenClient, java_client, python_client
from tests.peers import require_peer

WAIT_S = 120.0
SESSION_MS = 45_000
HEARTBEAT_MS = 300

CLASSIC_KINDS = ("confluent", "kafka_python", "aiokafka", "java")
CONSUMER_KINDS = ("confluent-consumer", "java-consumer")
KINDS = (*CLASSIC_KINDS, *CONSUMER_KINDS)

# What a broker is given, so that a test of a crash is over in seconds.
QUICK = {
    "group.min.session.timeout.ms": "500",
    "group.consumer.min.session.timeout.ms": "500",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "300",
}

_numbers = itertools.count()


class Member:
    """What a member has told so far. `owned` and `generation` are as it saw them last."""

    def __init__(self, name: str, kind: str, instance: str | None, host: DrivenClient) -> None:
        self.name = name
        self.kind = kind
        self.instance = instance
        self.events: list[dict[str, Any]] = []
        self.owned: set[int] = set()
        self.generation = -1
        self.read: dict[int, list[int]] = {}  # offsets by partition, in their order
        self.committed: dict[int, int] = {}
        self.is_gone = False
        self.killed_at: float | None = None
        self.host = host

    def on_event(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        if event["event"] not in ("closed", "failed"):
            self.generation = event["generation"]
        match event["event"]:
            case "assigned":
                self.owned.update(event["partitions"])
            case "revoked" | "lost":
                self.owned.difference_update(event["partitions"])
            case "records":
                for partition, offset, _ in event["records"]:
                    self.read.setdefault(partition, []).append(offset)
            case "committed":
                self.committed.update(dict(event["offsets"]))
            case "closed":
                self.is_gone = True
                self.owned.clear()

    def moves(self) -> list[dict[str, Any]]:
        """Every change of what it owns."""
        return [e for e in self.events if e["event"] in ("assigned", "revoked", "lost")]

    def read_count(self) -> int:
        return sum(map(len, self.read.values()))

    def commit(self) -> None:
        self.host.call("commit_member", member=self.name)

    def leave(self) -> None:
        """The library's own close; a static member stays in its group, as it should."""
        self.host.call("close_member", member=self.name)


class Hosts:
    """Driver processes on one broker: a shared one for each runtime, others for who gets killed."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.changed = threading.Condition()
        self._members: dict[str, Member] = {}
        self._shared: dict[str, DrivenClient] = {}
        self._own: list[DrivenClient] = []

    def _on_event(self, event: dict[str, Any]) -> None:
        with self.changed:
            self._members[event["member"]].on_event(event)
            self.changed.notify_all()

    def _open(self, runtime: str) -> DrivenClient:
        if runtime == "java":
            require_peer("kafka")
            return java_client(self.bootstrap, self._on_event)
        return python_client(runtime, self.bootstrap, self._on_event)

    def shared(self, runtime: str) -> DrivenClient:
        """`members`, `java` (which does administration too) or a driver for administration."""
        if runtime not in self._shared:
            self._shared[runtime] = self._open(runtime)
        return self._shared[runtime]

    def own(self, kind: str) -> DrivenClient:
        """A process for members that get killed; they all get killed at once."""
        host = self._open(_runtime(kind))
        self._own.append(host)
        return host

    def kill(self, host: DrivenClient) -> None:
        """SIGKILL for a process of `own`, and all its members."""
        now = time.monotonic()
        host.close()
        for member in self._members.values():
            if member.host is host and not member.is_gone:
                member.killed_at = now
                member.is_gone = True
                member.owned.clear()

    def add(self, name: str, kind: str, instance: str | None, host: DrivenClient | None) -> Member:
        place = host or self.shared(_runtime(kind))
        self._members[name] = member = Member(name, kind, instance, place)
        return member

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        for host in (*self._shared.values(), *self._own):
            host.close()


def _runtime(kind: str) -> str:
    return "java" if kind.startswith("java") else "members"


class Group:
    """A group on one topic. Leaving the with-statement lets the members that are left leave."""

    def __init__(self, hosts: Hosts, name: str, topic: str, partitions: int) -> None:
        self.hosts = hosts
        self.name = name
        self.topic = topic
        self.partitions = partitions
        self.members: list[Member] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_exc: object) -> None:
        for member in self.members:
            if not member.is_gone and kind is None:
                member.leave()

    def join(
        self,
        kind: str,
        *,
        instance: str | None = None,
        commit: str = "manual",
        session_ms: int = SESSION_MS,
        assignor: str = "range",
        host: DrivenClient | None = None,
    ) -> Member:
        """`commit`: "each" commits after everything that was read, "manual" when told to."""
        library, _, protocol = kind.partition("-")
        name = f"{self.name}/{kind}-{next(_numbers)}"
        member = self.hosts.add(name, kind, instance, host)
        self.members.append(member)
        member.host.call(
            "open_member",
            member=name,
            library=library,
            protocol=protocol or "classic",
            group=self.name,
            topic=self.topic,
            instance=instance,
            commit=commit,
            session_ms=session_ms,
            heartbeat_ms=HEARTBEAT_MS,
            assignor=assignor,
        )
        return member

    def wait(self, seen: Callable[[], bool], what: str) -> None:
        """Returns as soon as members have told what makes `seen()` true."""
        with self.hosts.changed:
            if not self.hosts.changed.wait_for(lambda: seen() or self._failures(), WAIT_S):
                raise AssertionError(f"not in {WAIT_S} s: {what}\n{self.story()}")
            assert not self._failures(), self.story()

    def _failures(self) -> list[dict[str, Any]]:
        return [e for member in self.members for e in member.events if e["event"] == "failed"]

    def story(self, last: int = 12) -> str:
        lines = []
        for member in self.members:
            lines.append(f"{member.name}: owns {sorted(member.owned)}, read {member.read_count()}")
            told = [e for e in member.events if e["event"] != "records"][-last:]
            lines += [f"    {event}" for event in told]
        return "\n".join(lines)

    def wait_shared(self, *members: Member) -> None:
        """All partitions are owned, by these members alone, as evenly as it can be."""

        def is_shared() -> bool:
            owned = sorted(p for member in self.members for p in member.owned)
            sizes = [len(member.owned) for member in members]
            return (
                owned == list(range(self.partitions))
                and sum(sizes) == self.partitions
                and max(sizes) - min(sizes) <= 1
            )

        self.wait(is_shared, f"{len(members)} members share {self.partitions} partitions")

    def wait_read(self, offsets: Iterable[int], *members: Member) -> None:
        """These members have read exactly these offsets of every partition, each once."""
        wanted = list(offsets)

        def read(partition: int) -> list[int]:
            return sorted(o for member in members for o in member.read.get(partition, []))

        count = len(wanted) * self.partitions
        who = [member.name for member in members]
        enough = f"{who} read {count}"
        self.wait(lambda: sum(m.read_count() for m in members) >= count, enough)
        for partition in range(self.partitions):
            assert read(partition) == wanted, f"partition {partition}: {self.story()}"
