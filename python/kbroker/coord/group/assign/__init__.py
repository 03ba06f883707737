"""Server-side assignors by the name that clients and configuration give them.

An assignor is a pure function of who subscribes to what, who was to have what, and how many
partitions there are. None looks at racks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from kbroker.coord.group.assign.range import assign_range
from kbroker.coord.group.assign.spec import Assignment, MemberSpec
from kbroker.coord.group.assign.uniform import assign_uniform

Assignor = Callable[[Mapping[str, MemberSpec], Mapping[bytes, int]], dict[str, Assignment]]

ASSIGNORS: Final[dict[str, Assignor]] = {"uniform": assign_uniform, "range": assign_range}
