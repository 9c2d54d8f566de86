"""Model and adapter folders: other values in their JSON, other bytes in their weights, files that are gone."""

from __future__ import annotations

import json
import random
from pathlib import Path

from robustness.mutate import as_json, damaged, mutated
from robustness.world import commands

CODE = "from pathlib import Path\nPath('code-was-run').touch()\n"
"""What a model folder may carry, and nobody may run."""


def checkpoints(draw: random.Random, folder: Path) -> list[str]:
    name = draw.choice(("base", "base", "adapted", "adapter"))
    for _ in range(draw.choice((1, 1, 2))):
        draw.choice(DAMAGES)(draw, folder / name)
    return draw.choice(READERS[name])


def _mutate_json(draw: random.Random, model: Path) -> None:
    """Small files more often than the tokenizer's thousand places."""
    path = draw.choice(sorted(model.glob("*.json")))
    try:
        value = json.loads(path.read_bytes())
    except ValueError:  # damaged before
        return
    path.write_text(as_json(mutated(draw, value)), errors="surrogatepass")


def _damage(draw: random.Random, model: Path) -> None:
    path = draw.choice(sorted(path for path in model.iterdir() if path.is_file()))
    path.write_bytes(damaged(draw, path.read_bytes()))


def _mutate_header(draw: random.Random, model: Path) -> None:
    """The JSON that a safetensors file begins with, its length told rightly."""
    path = draw.choice(sorted(model.glob("*.safetensors")) or [None])
    if path is None:
        return
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    try:
        header = as_json(mutated(draw, json.loads(data[8 : 8 + length]))).encode(errors="surrogatepass")
    except ValueError:
        return
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])


def _remove(draw: random.Random, model: Path) -> None:
    draw.choice(sorted(model.iterdir())).unlink()


def _add_index(draw: random.Random, model: Path) -> None:
    """Of shards: that there are, that there are not, that are elsewhere."""
    shard = draw.choice(("model.safetensors", "missing.safetensors", "../adapted/model.safetensors", 5, ""))
    index = {"metadata": {}, "weight_map": {"model.norm.weight": shard, "lm_head.weight": "model.safetensors"}}
    (model / "model.safetensors.index.json").write_text(as_json(mutated(draw, index)), errors="surrogatepass")


def _add_code(draw: random.Random, model: Path) -> None:
    (model / "configuration_own.py").write_text(CODE)
    (model / "modeling_own.py").write_text(CODE)
    config = json.loads((model / "config.json").read_bytes()) if (model / "config.json").exists() else {}
    own = {"AutoConfig": "configuration_own.Own", "AutoModelForCausalLM": "modeling_own.Own"}
    (model / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": own}))


DAMAGES = (_mutate_json, _mutate_json, _mutate_json, _damage, _damage, _mutate_header, _remove, _add_index, _add_code)


def _that_read(name: str) -> list[list[str]]:
    """Commands that read a model of this name; those that load it with torch once each, others four times."""
    found: list[list[str]] = []
    for title, arguments in commands().items():
        weight = {"run": 0, "evaluate": 1}.get(title, 4)
        if (title.startswith("run ") and name == "base") or any(part.split(":")[0] == name for part in arguments):
            found += [arguments] * weight
    return found


READERS: dict[str, list[list[str]]] = {name: _that_read(name) for name in ("base", "adapted", "adapter")}
