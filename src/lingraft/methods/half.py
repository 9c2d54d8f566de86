"""Half fine-tuning: half of the matrices of each layer train."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Literal

from pydantic import Field

from lingraft.layer_groups import LAYERS, LayerGroup, canonical_name, layer_index
from lingraft.methods.full_rank import LayersInFull


class Half(LayersInFull):
    """Half of the modules of each layer, drawn at random, train; embeddings, head and final norm train too.

        attention: n/2 of its n linears,    feed-forward: n/2,    norms: n/2

    Of an odd number one more is frozen in the second, fourth, ... layer, and one less in the others. The draw is made
    once, by `seed` (HFT, arXiv 2404.18466 §3: 2 of 4 linears of attention, 1 or 2 of 3 of the feed-forward block, one
    of two norms). What does not move keeps what it knows, and the merged weights of old and new are no average.
    """

    name: Literal["half"] = "half"
    seed: int = Field(0, ge=0)

    def groups(self) -> frozenset[LayerGroup]:
        return frozenset(LayerGroup) - {LayerGroup.OUTSIDE}

    def choose(self, names: Collection[str]) -> set[str]:
        places: dict[tuple[int, str], list[str]] = {}
        for module in dict.fromkeys(name.rpartition(".")[0] for name in names):
            if (index := layer_index(f"{module}.")) is not None:
                places.setdefault((index, _part(module)), []).append(module)
        draw, frozen = random.Random(self.seed), set()
        for (index, _), modules in places.items():
            frozen.update(draw.sample(modules, (len(modules) + index % 2) // 2))
        return {name for name in names if name.rpartition(".")[0] not in frozen}


def _part(module: str) -> str:
    """Which part of its layer a module lies in: `self_attn`, `mlp`, or `norm`."""
    inside = canonical_name(module).removeprefix(f"{LAYERS}.").partition(".")[2]
    return "norm" if inside.endswith("norm") else inside.partition(".")[0]
