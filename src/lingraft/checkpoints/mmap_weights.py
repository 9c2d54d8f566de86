"""The weights of a model folder as torch tensors in their stored dtype, memory-mapped and not loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from lingraft.checkpoints.weights import find_weights
from lingraft.layer_groups import canonical_name


class MappedWeights:
    """Tensors by name: as stored, as in a live model, or as in a wrapped one.

    Raises:
        ModelError: as `find_weights`.
    """

    def __init__(self, folder: Path) -> None:
        self._stored = {canonical_name(name): tensor for name, tensor in find_weights(folder).items()}
        self._files: dict[Path, Any] = {}

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a tensor; `None` where no tensor has this name."""
        stored = self._stored.get(canonical_name(name))
        return stored.shape if stored else None

    def __getitem__(self, name: str) -> Tensor:
        stored = self._stored[canonical_name(name)]
        if stored.file not in self._files:
            self._files[stored.file] = safe_open(stored.file, framework="pt")
        tensor: Tensor = self._files[stored.file].get_tensor(stored.name)
        return tensor
