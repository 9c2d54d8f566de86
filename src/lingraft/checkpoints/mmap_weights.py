"""The weights of a model folder as torch tensors in their stored dtype, memory-mapped and not loaded."""

from __future__ import annotations

from functools import cached_property
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from lingraft.architectures import ARCHITECTURES
from lingraft.checkpoints.config import read_config_file
from lingraft.checkpoints.weights import find_weights
from lingraft.layer_groups import canonical_name, expert_parts


class MappedWeights:
    """Tensors by name: as stored, as in a live model, or as in a wrapped one.

    A live parameter that holds all experts of a block is put together from their matrices, a copy in memory.

    Raises:
        ModelError: as `find_weights`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stored = {canonical_name(name): tensor for name, tensor in find_weights(folder).items()}
        self._files: dict[Path, Any] = {}

    @property
    def names(self) -> list[str]:
        """Canonical names of all tensors that are stored."""
        return list(self._stored)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a tensor; `None` where no tensor has this name."""
        if experts := self._experts(name):
            first = [self._stored[matrix].shape for matrix in experts[0]]
            return (len(experts), sum(rows for rows, _ in first), first[0][1])
        stored = self._stored.get(canonical_name(name))
        return stored.shape if stored else None

    def __getitem__(self, name: str) -> Tensor:
        if experts := self._experts(name):
            return torch.stack([torch.cat([self[matrix] for matrix in matrices]) for matrices in experts])
        stored = self._stored[canonical_name(name)]
        if stored.file not in self._files:
            self._files[stored.file] = safe_open(stored.file, framework="pt")
        tensor: Tensor = self._files[stored.file].get_tensor(stored.name)
        return tensor

    def _experts(self, name: str) -> list[list[str]]:
        """Of each expert the stored matrices whose rows a live parameter holds; empty for any other name."""
        if canonical_name(name) in self._stored or self._architecture is None:
            return []
        if (parts := expert_parts(name, self._architecture)) is None:
            return []
        place, linears = parts
        each = ([f"{place}.{expert}.{linear}.weight" for linear in linears] for expert in count())
        return list(takewhile(lambda matrices: all(matrix in self._stored for matrix in matrices), each))

    @cached_property
    def _architecture(self) -> Any:
        return ARCHITECTURES.get(read_config_file(self.folder)["model_type"])
