"""Random requests of a few clients to one or two groups, valid and invalid ones mixed.

What a client does next depends on what it was told, in the names that both brokers share; so the
same seed asks both the same. Nothing here depends on time: no session or rebalance ends by itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from kbroker.base import errors
from kbroker.wire import apis
from kbroker.wire.schema.list_groups import ListGroupsRequest

from tests.peer.group_talk import Talk, assignment, subscription
from tests.peer.lockstep import BEFORE, OWNED

CLIENTS: Final = 5
_TOPICS: Final = ("dozen", "other")
# A classic static member in the place of one of the consumer protocol: docs/skipped.md, 11.
_INSTANCES: Final = ("i0", "i1")
_NEW_INSTANCES: Final = ("j0", "j1")
_BATCH_FROM: Final = 3  # LeaveGroup
_NAMED_FROM: Final = 5  # SyncGroup


@dataclass
class Membership:
    """What a client believes about itself in a group."""

    member: str = ""
    epoch: int = -1
    is_new: bool = False  # of the consumer protocol
    instance: str | None = None
    protocols: tuple[str, ...] = ("range",)
    topic: str = "dozen"
    others: list[str] = field(default_factory=list)  # whom it assigns to, when it leads


class Walk:
    """One seed. `mode`: which protocols its clients speak."""

    def __init__(self, talk: Talk, seed: str) -> None:
        self.talk = talk
        self.rng = random.Random(seed)
        self.mode = self.rng.choice(("classic", "classic", "new", "mixed", "mixed"))
        self.groups = [f"g-{seed}-{index}" for index in range(self.rng.choice((1, 1, 2)))]
        self.static = self.rng.random() < 0.4
        self.types: dict[str, Any] = {}  # group -> its type and state
        self.made: dict[tuple[str, str], set[str]] = {}  # ids of a client that brokers made up
        self.asked: dict[str, str] = {}  # client -> the member that it last asked for
        self.known: dict[tuple[str, str], Membership] = {}

    def step(self) -> None:
        group = self.rng.choice(self.groups)
        idle = [f"c{index}" for index in range(CLIENTS)]
        idle = [client for client in idle if not self.talk.pair.is_waiting(client)]
        if self.rng.random() < 0.06:
            self._look(group)
        if not idle or self.rng.random() < 0.03:
            self.talk.pair.drop(f"c{self.rng.randrange(CLIENTS)}")
            return
        client = self.rng.choice(idle)
        me = self.known.setdefault((client, group), Membership())
        rest = [self._commit, self._fetch, self._leave, self._administer]
        often = self._classic_step if self._speaks_classic(me) else self._new_step
        act = often if self.rng.random() < 0.72 else self.rng.choice(rest)
        act(client, group, me)
        self._learn(group)
        if self.mode == "mixed":
            self._watch_types()

    def _watch_types(self) -> None:
        """A group whose members are on their way when it becomes a classic one: we write what they
        have, Kafka what they were to have, and then upgrade from it (docs/skipped.md, 68)."""
        listed = self.talk.pair.ours.call(apis.LIST_GROUPS, 5, ListGroupsRequest()).groups
        now = {each.group_id: (each.group_type, each.group_state) for each in listed}
        for group in self.groups:
            before = self.types.get(group)
            self.types[group] = now.get(group)
            if before and before[0] == "consumer" and before[1] != "Stable":
                self.talk.pair.parted |= self.types[group] is not None and (
                    self.types[group][0] == "classic"
                )

    def _speaks_classic(self, me: Membership) -> bool:
        if self.mode == "mixed":
            return self.rng.random() < 0.5 if not me.member else not me.is_new
        return self.mode == "classic"

    def _look(self, group: str) -> None:
        looks: list[Callable[[str], Any]] = [
            self.talk.describe, self.talk.describe_new, self._list, self._fetch_all,
        ]  # fmt: skip
        for look in self.rng.sample(looks, 2):
            look(group)

    def _list(self, group: str) -> None:
        self.talk.list()

    def _fetch_all(self, group: str) -> None:
        self.talk.fetch("admin", group, topics=None)

    # What clients were told

    def _learn(self, group: str) -> None:
        """Also those that waited: an answer is for the group that the client asked last."""
        for client, answer in self.talk.pair.last.items():
            me = self.known.get((client, group))
            if me is None or not isinstance(answer, dict):
                continue
            code = answer.get("error_code", 0)
            if code in (errors.UNKNOWN_MEMBER_ID, errors.FENCED_INSTANCE_ID):
                if self.rng.random() < 0.7:
                    self.known[client, group] = Membership(instance=me.instance)
            elif "generation_id" in answer and code == errors.MEMBER_ID_REQUIRED:
                me.member, me.is_new = answer["member_id"], False
                if self._is_of_new_group(client, me.member):
                    me.member = f"own-{client}"
            elif "generation_id" in answer and not code:
                me.member, me.epoch = answer["member_id"], answer["generation_id"]
                me.is_new = False
                me.others = [each["member_id"] for each in answer["members"]]
                # Its place among the others is random; so is that of a client's second id.
                ids = self.made.setdefault((client, group), set())
                ids |= {me.member} if me.member.startswith("M") else set()
                self.talk.pair.parted |= self._is_of_new_group(client, me.member)
                self.talk.pair.parted |= self.mode == "mixed" and len(ids) > 1
            elif "member_epoch" in answer and not code:
                me.member, me.epoch = answer["member_id"], answer["member_epoch"]
                me.is_new = True
                if me.epoch == -1:
                    self.known[client, group] = Membership()

    def _is_of_new_group(self, client: str, member: str) -> bool:
        """Kafka's ids begin with the client's or the instance's id in classic groups only."""
        own = str(self.talk.pair.kafka.own.get(member, client))
        return not own.startswith((client, "own", "i", "j"))

    # Choices

    def _member(self, group: str, me: Membership) -> str:
        chance = self.rng.random()
        member = me.member
        if 0.9 <= chance < 0.95:
            others = [known.member for (_, at), known in self.known.items() if at == group]
            member = self.rng.choice(others)
        elif chance >= 0.95:
            member = self.rng.choice(("", "nobody"))
        # Kafka never answers the first of two requests of one member that wait.
        waiting = (c for c in self.asked if self.talk.pair.is_waiting(c))
        return "nobody" if member and member in map(self.asked.get, waiting) else member

    def _epoch(self, me: Membership) -> int:
        chance = self.rng.random()
        if chance < 0.88:
            return me.epoch
        return me.epoch + self.rng.choice((-1, 1, -2, 5)) if chance < 0.97 else -1

    def _instance(self, me: Membership) -> str | None:
        if self.rng.random() < 0.04:
            return self.rng.choice((None, *(_NEW_INSTANCES if me.is_new else _INSTANCES)))
        return me.instance

    def _version(self, first: int, last: int) -> int:
        return last if self.rng.random() < 0.6 else self.rng.randint(first, last)

    # The classic protocol

    def _classic_step(self, client: str, group: str, me: Membership) -> None:
        if me.epoch < 0 or self.rng.random() < 0.3:
            self._join(client, group, me)
        elif self.rng.random() < 0.55:
            self._sync(client, group, me)
        else:
            version = self._version(3 if me.instance else 0, 4)
            instance = self._instance(me) if version >= 3 else None
            self.talk.beat(
                client, group, self._member(group, me), self._epoch(me),
                version=version, instance=instance,
            )  # fmt: skip

    def _join(self, client: str, group: str, me: Membership) -> None:
        if not me.member:
            me.instance = None
            if self.static and self.rng.random() < 0.6:
                me.instance = self.rng.choice(_INSTANCES)
        if self.rng.random() < 0.15 or not me.member:
            me.protocols = self.rng.choice(
                # All in one order: no two protocols ever have as many votes.
                (("range",), ("range",), ("range", "sticky"), ("sticky",))
            )
            me.topic = self.rng.choice(_TOPICS)
        version = self._version(5 if me.instance else 1, 9)
        # Kafka forgets the target of a member that becomes a static one under its old id.
        member = self._member(group, me) if self.mode == "classic" else me.member
        if not member and self.mode == "mixed" and not me.instance:
            # In a group of the consumer protocol a member may bring its own id, and then both
            # brokers sort it the same.
            member = self.rng.choice(("", f"own-{client}"))
        self.asked[client] = member
        kind = "connect" if self.rng.random() < 0.02 else "consumer"
        self.talk.join(
            client, group, member, version=version, kind=kind,
            instance=self._instance(me) if version >= 5 else None,
            protocols=[(name, subscription(me.topic)) for name in me.protocols],
        )  # fmt: skip

    def _sync(self, client: str, group: str, me: Membership) -> None:
        version = self._version(3 if me.instance else 0, 5)
        numbers = list(range(12))
        gives = {
            member: assignment(dozen=numbers[index :: len(me.others)])
            for index, member in enumerate(sorted(me.others))
        }
        named: dict[str, Any] = {"kind": None, "protocol": None}
        if version >= _NAMED_FROM:
            named = {"kind": "consumer", "protocol": me.protocols[0]}
        self.asked[client] = self._member(group, me)
        self.talk.sync(
            client, group, self.asked[client], self._epoch(me), version=version,
            instance=self._instance(me) if version >= 3 else None, gives=gives, **named,
        )  # fmt: skip

    # The consumer protocol

    def _new_step(self, client: str, group: str, me: Membership) -> None:
        rng = self.rng
        joins_again = not me.instance and rng.random() < 0.08
        if not me.is_new or me.epoch <= 0 or joins_again:
            self._enter(client, group, me)
            return
        owned: Any = rng.choice((None, None, [], [OWNED], [OWNED], [OWNED], [BEFORE]))
        rest: dict[str, Any] = {}
        if rng.random() < 0.1:
            me.topic = rng.choice(_TOPICS)
            rest["names"] = [me.topic]
        if rng.random() < 0.1:
            rest.update(names=[me.topic], rebalance_timeout_ms=120_000)
        epoch = self._epoch(me)
        if rng.random() < 0.08:
            epoch = -2 if me.instance and rng.random() < 0.8 else -1
        self.talk.pulse(
            client, group, self._member(group, me), epoch, owned=owned,
            instance_id=self._instance(me), **rest,
        )  # fmt: skip

    def _enter(self, client: str, group: str, me: Membership) -> None:
        # Always the same one: Kafka never forgets an instance id that a member had once.
        index = int(client[1:])
        me.instance = _NEW_INSTANCES[index % 2] if self.static and index < 3 else None
        me.topic = self.rng.choice(_TOPICS)
        # A member that keeps its id changes its protocol.
        keeps = me.member and self.rng.random() < 0.8
        member = me.member if keeps else f"own-{client}"
        self.talk.pulse_in(
            client, group, member, me.topic, server_assignor="range", instance_id=me.instance,
        )  # fmt: skip

    # Both

    def _commit(self, client: str, group: str, me: Membership) -> None:
        version = self._version(7 if me.instance else 2, 10)
        topics = self.rng.choice((("dozen",), ("dozen", "other"), ("gone",)))
        if version >= 10:
            topics = topics if topics != ("gone",) else ("other",)
        # In a past epoch Kafka takes all or none, we what was the member's then already.
        partitions = [self.rng.randrange(14)]
        if self.mode == "classic":
            partitions.append(0)
        else:
            topics = topics[:1]
        self.talk.commit(
            client, group, self._member(group, me), self._epoch(me), version=version,
            topics=topics, partitions=partitions, offset=self.rng.randrange(99),
            instance=self._instance(me) if version >= 7 else None,
        )  # fmt: skip

    def _fetch(self, client: str, group: str, me: Membership) -> None:
        version = self._version(1, 10)
        rest: dict[str, Any] = {}
        if version >= 9 and self.rng.random() < 0.7:
            rest = {"member": self._member(group, me), "epoch": self._epoch(me)}
        self.talk.fetch(client, group, version=version, topics=("dozen",), **rest)

    def _leave(self, client: str, group: str, me: Membership) -> None:
        version = self._version(0, 5)
        leaving: list[str | tuple[str, str | None]] = [self._member(group, me)]
        if version >= _BATCH_FROM:
            leaving = [(self._member(group, me), self._instance(me))]
            if me.instance and self.rng.random() < 0.3:
                leaving = [("", me.instance)]
            if self.rng.random() < 0.2:
                leaving.append((self._member(group, me), None))
        # Kafka rebalances a group when a member leaves that was only given an id.
        given = [known.member for known in self.known.values() if known.epoch < 0]
        if not any((each if isinstance(each, str) else each[0]) in given for each in leaving):
            self.talk.leave(client, group, *leaving, version=version)

    def _administer(self, client: str, group: str, me: Membership) -> None:
        act: Callable[[], Any] = self.rng.choice(
            (
                lambda: self.talk.delete(group),
                lambda: self.talk.forget(client, group, "dozen", "gone", partitions=(0, 3, 20)),
                lambda: self.talk.describe(group, version=self._version(0, 6)),
                lambda: self.talk.describe_new(group),
            )
        )
        act()
