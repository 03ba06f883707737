from typing_extensions import Buffer

from kcore._native.batch import BatchInfo

def walk_states(
    span: Buffer, *, leader_epoch: int = -1
) -> tuple[list[BatchInfo], list[tuple[int, int]]]: ...
