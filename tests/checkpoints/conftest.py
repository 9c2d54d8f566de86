"""Families of tiny checkpoints: a base, and models that training moved away from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

Family = Mapping[str, Path]


@pytest.fixture
def make_family(tmp_path, make_model, tokenizer) -> Callable[..., Family]:
    """A factory of folders `base`, `a`, `b`, `chat`: the first, and three that noise was added to."""

    def make(architecture: str = "llama", tied: bool = False, dtype: torch.dtype = torch.bfloat16) -> Family:
        folders = {}
        for seed, name in enumerate(("base", "a", "b", "chat")):
            model = make_model(architecture, tied)
            torch.manual_seed(seed)
            with torch.no_grad():
                for parameter in model.parameters() if seed else ():
                    parameter.add_(torch.randn_like(parameter) * 0.02)
            folders[name] = tmp_path / f"{architecture}-{tied}" / name
            model.to(dtype).save_pretrained(folders[name])
            tokenizer.save_pretrained(folders[name])
        return folders

    return make


@pytest.fixture
def family(make_family) -> Family:
    return make_family()


@pytest.fixture
def tensors() -> Callable[[Path], dict[str, Tensor]]:
    """All tensors of a folder, as its files have them."""

    def load(folder: Path) -> dict[str, Tensor]:
        return {name: t for path in sorted(folder.glob("*.safetensors")) for name, t in load_file(path).items()}

    return load


@pytest.fixture
def same_bits(tensors) -> Callable[[Path, Path], None]:
    """Asserts that two folders hold the same tensors, bit for bit."""

    def check(one: Path, other: Path) -> None:
        first, second = tensors(one), tensors(other)
        assert first.keys() == second.keys()
        for name in first:
            assert first[name].dtype == second[name].dtype
            assert first[name].shape == second[name].shape
            size = {2: torch.int16, 4: torch.int32}[first[name].itemsize]
            assert torch.equal(first[name].view(size), second[name].view(size)), name

    return check
