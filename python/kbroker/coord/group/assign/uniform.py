"""The `uniform` assignor: balanced first, then sticky.

Every member keeps what it was to have, as far as it exists and the member subscribes to it. Then:

* All members subscribe to the same topics: each has a share, the partitions by the members. The
  larger shares go to those who have most. What exceeds a share leaves, what is missing comes; the
  number of moves is the least possible.
* Subscriptions differ: what nobody has goes to the least loaded subscriber of its topic, topics
  with the most partitions for each subscriber first. Then partitions move from the most to the
  least loaded subscriber of their topic as long as that narrows a difference of two or more. At the
  end no single move would improve the balance, unless the bound on rounds was met first:
  overlapping subscriptions may converge slowly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush

from kbroker.coord.group.assign.spec import Assignment, MemberSpec, group_by_topic

_ROUNDS_MAX = 16


def assign_uniform(
    members: Mapping[str, MemberSpec], partition_counts: Mapping[bytes, int]
) -> dict[str, Assignment]:
    if not members:
        return {}
    board = _Board(members, partition_counts)
    if board.is_homogeneous:
        board.keep()
        board.share()
        return board.result()
    board.find_subscribers(partition_counts)
    board.keep()
    board.fill()
    for _ in range(_ROUNDS_MAX):
        if not board.balance():
            break
    return board.result()


class _Board:
    """Members are numbers here, in order of their ids: cheap to compare, and deterministic."""

    def __init__(
        self, members: Mapping[str, MemberSpec], partition_counts: Mapping[bytes, int]
    ) -> None:
        self._ids = sorted(members)
        self._specs = [members[member_id] for member_id in self._ids]
        self._loads = [0] * len(self._ids)
        first = self._specs[0].topic_ids
        # Members with the same subscription mostly share one set.
        self.is_homogeneous = all(
            spec.topic_ids is first or spec.topic_ids == first for spec in self._specs
        )
        self._changed: set[int] = set()  # members that get something else than they had
        self._subscribers: dict[bytes, list[int]] = {}
        # topic id -> the owner of each partition; None: nobody yet
        self._owners: dict[bytes, list[int | None]] = {
            topic_id: [None] * partition_counts[topic_id]
            for topic_id in sorted(first)
            if topic_id in partition_counts
        }

    def find_subscribers(self, partition_counts: Mapping[bytes, int]) -> None:
        """What only different subscriptions need: who reads which topic, and in which order topics
        are filled."""
        for number, spec in enumerate(self._specs):
            for topic_id in spec.topic_ids:
                if topic_id in partition_counts:
                    self._subscribers.setdefault(topic_id, []).append(number)
        self._owners = {
            topic_id: [None] * partition_counts[topic_id]
            for topic_id in sorted(
                self._subscribers, key=lambda topic_id: self._rank(topic_id, partition_counts)
            )
        }

    def _rank(self, topic_id: bytes, counts: Mapping[bytes, int]) -> tuple[float, int, bytes]:
        subscribed = len(self._subscribers[topic_id])
        return -counts[topic_id] / subscribed, subscribed, topic_id

    def keep(self) -> None:
        for number, spec in enumerate(self._specs):
            for topic_id, partitions in spec.target.items():
                owners = self._owners.get(topic_id)
                if owners is None or topic_id not in spec.topic_ids:
                    self._changed.add(number)
                    continue
                for partition in partitions:
                    if partition < len(owners) and owners[partition] is None:
                        owners[partition] = number
                        self._loads[number] += 1
                    else:
                        self._changed.add(number)

    def share(self) -> None:
        total = sum(len(owners) for owners in self._owners.values())
        quota, with_one_more = divmod(total, len(self._ids))
        by_load = sorted(range(len(self._ids)), key=lambda number: -self._loads[number])
        shares = [quota] * len(self._ids)
        for number in by_load[:with_one_more]:
            shares[number] += 1
        loads = self._loads
        for owners in self._owners.values():
            for partition in range(len(owners) - 1, -1, -1):
                owner = owners[partition]
                if owner is not None and loads[owner] > shares[owner]:
                    owners[partition] = None
                    loads[owner] -= 1
                    self._changed.add(owner)
        takers = [number for number in by_load if loads[number] < shares[number]]
        for owners in self._owners.values():
            for partition, owner in enumerate(owners):
                if owner is None:
                    taker = takers[-1]
                    owners[partition] = taker
                    loads[taker] += 1
                    self._changed.add(taker)
                    if loads[taker] == shares[taker]:
                        takers.pop()

    def fill(self) -> None:
        for topic_id, owners in self._owners.items():
            if None not in owners:
                continue
            heap = self._by_load(self._subscribers[topic_id])
            for partition, owner in enumerate(owners):
                if owner is None:
                    load, number = heappop(heap)
                    owners[partition] = number
                    self._loads[number] = load + 1
                    self._changed.add(number)
                    heappush(heap, (load + 1, number))

    def balance(self) -> bool:
        """One pass over all topics; whether anything moved."""
        moved = False
        for topic_id, owners in self._owners.items():
            subscribers = self._subscribers[topic_id]
            loads = [self._loads[number] for number in subscribers]
            if max(loads) - min(loads) > 1:
                moved |= self._balance_topic(subscribers, owners)
        return moved

    def _balance_topic(self, subscribers: list[int], owners: list[int | None]) -> bool:
        held: dict[int, list[int]] = {}
        for partition, owner in enumerate(owners):
            if owner is not None:
                held.setdefault(owner, []).append(partition)
        least = self._by_load(subscribers)
        most = [(-self._loads[number], number) for number in held]
        heapify(most)
        moved = False
        while most:
            giver_load, giver = -most[0][0], most[0][1]
            if giver_load != self._loads[giver]:
                heappop(most)  # gave since; its fresh entry is in the heap
                continue
            while least[0][0] != self._loads[least[0][1]]:
                heappop(least)
            taker_load, taker = least[0]
            if giver_load - taker_load <= 1:
                break
            heappop(most)
            heappop(least)
            owners[held[giver].pop()] = taker
            self._loads[giver] -= 1
            self._loads[taker] += 1
            self._changed.update((giver, taker))
            moved = True
            if held[giver]:
                heappush(most, (-self._loads[giver], giver))
            heappush(least, (self._loads[giver], giver))
            heappush(least, (self._loads[taker], taker))
        return moved

    def _by_load(self, numbers: Iterable[int]) -> list[tuple[int, int]]:
        heap = [(self._loads[number], number) for number in numbers]
        heapify(heap)
        return heap

    def result(self) -> dict[str, Assignment]:
        pairs: dict[int, list[tuple[bytes, int]]] = {number: [] for number in self._changed}
        for topic_id, owners in self._owners.items():
            for partition, owner in enumerate(owners):
                if owner in pairs:
                    pairs[owner].append((topic_id, partition))
        return {
            member_id: group_by_topic(pairs[number])
            if number in pairs
            else self._specs[number].target
            for number, member_id in enumerate(self._ids)
        }
