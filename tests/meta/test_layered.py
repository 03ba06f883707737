"""Goal: a layered mapping is the dict it stands for, in the same order, and older versions stay."""

from __future__ import annotations

import random

import pytest
from kbroker.meta import layered
from kbroker.meta.layered import Layered


@pytest.mark.parametrize("layer_max", [0, 3, 1000])
@pytest.mark.parametrize("seed", range(8))
def test_it_is_the_dict_it_stands_for(
    seed: int, layer_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layered, "LAYER_MAX", layer_max)
    rng = random.Random(seed)
    expected = {n: str(n) for n in range(10)}
    mapping = Layered(dict(expected))
    versions = [(mapping, dict(expected))]
    for _ in range(100):
        removed = rng.sample(range(20), rng.randrange(4))
        put = [(rng.randrange(20), str(rng.random())) for _ in range(rng.randrange(3))]
        mapping = mapping.changed([*removed, *(key for key, _ in put)], put)
        for key in [*removed, *(key for key, _ in put)]:
            expected.pop(key, None)
        expected.update(put)
        versions.append((mapping, dict(expected)))
    for version, content in versions:
        assert list(version.items()) == list(content.items())
        assert list(version) == list(content) and list(version.values()) == list(content.values())
        assert len(version) == len(content) and version == content
        for key in range(20):
            assert version.get(key, "none") == content.get(key, "none")
            assert (key in version) == (key in content)


def test_a_key_that_is_not_there() -> None:
    mapping = Layered({"a": 1, "b": 2}).changed(["a"], [])
    for key in ("a", "c"):
        with pytest.raises(KeyError):
            mapping[key]
    assert mapping["b"] == 2


def test_a_change_copies_the_layer_and_not_the_rest() -> None:
    first = Layered({n: n for n in range(1000)})
    second = first.changed([], [(5, 6)])
    assert second._base is first._base and len(second._layer) == 1
