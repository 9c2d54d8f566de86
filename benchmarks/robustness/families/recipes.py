"""Recipes with other values, keys and bytes, and with overrides; nearly all are only planned."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from robustness.mutate import VALUES, as_json, as_yaml, damaged, mutated
from robustness.world import RECIPES


def recipes(draw: random.Random, folder: Path) -> list[str]:
    recipe = draw.choice(list(RECIPES.values()))()
    text = as_yaml(mutated(draw, recipe) if draw.random() < 0.8 else recipe).encode(errors="surrogatepass")
    (folder / "recipe.yaml").write_bytes(damaged(draw, text) if draw.random() < 0.25 else text)
    overrides = [_override(draw, recipe) for _ in range(draw.choice((0, 0, 0, 1, 2)))]
    return ["run", "recipe.yaml", *overrides, "--out", "out", "--dry-run"]


def _override(draw: random.Random, recipe: dict[str, Any]) -> str:
    """An assignment to a place of the recipe, or near it."""
    keys, value = [], recipe
    while isinstance(value, dict | list) and value and (not keys or draw.random() < 0.8):
        key = draw.choice(list(value) if isinstance(value, dict) else range(len(value)))
        keys.append(str(key))
        value = value[key]
    if draw.random() < 0.2:
        keys.insert(draw.randrange(len(keys) + 1), draw.choice(("x", "0", "-1", "", "9" * 5000)))
    return f"{'.'.join(keys)}{draw.choice(('=', '=', '=', ''))}{as_json(draw.choice(VALUES))}"[:100_000]
