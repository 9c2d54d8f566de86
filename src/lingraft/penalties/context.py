"""What a penalty is prepared from: the model that will train, its base on disk, and how training computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.layer_groups import LayerRange, is_adapter_factor

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from lingraft.checkpoints.mmap_weights import MappedWeights
    from lingraft.corpus.tokenize import DocumentTokenizer
    from lingraft.methods.base import Adaptation
    from lingraft.penalties.trained import FullRank, LowRank, Trained


@dataclass(frozen=True)
class PenaltyContext:
    """A model before its first optimizer step: it still computes what the base computes."""

    adaptation: Adaptation
    layers: LayerRange
    """Layer groups of the method; all layers are in one where it has no range."""
    base: Path
    """Folder of the model that training starts from."""
    tokenizer: DocumentTokenizer
    max_length: int
    """Tokens of a training block."""
    seed: int
    device: torch.device
    """Where training computes; the model may still lie elsewhere."""
    autocast: torch.dtype | None
    """The type of mixed precision; `None` where training computes in the types of the parameters."""

    @property
    def model(self) -> nn.Module:
        return self.adaptation.model

    @cached_property
    def _starts(self) -> MappedWeights:
        from lingraft.checkpoints.mmap_weights import MappedWeights

        return MappedWeights(self.base)

    def full_rank(self) -> Iterator[FullRank]:
        """Weights of the base that train as they are; what a method adds has no theta_0 and is left out."""
        from lingraft.penalties.trained import FullRank

        for name, parameter in self.model.named_parameters():
            is_the_bases = not is_adapter_factor(name) and self._starts.shape(name) == tuple(parameter.shape)
            if parameter.requires_grad and is_the_bases:
                yield FullRank(name, parameter, self._starts[name])

    def low_rank(self) -> Iterator[LowRank]:
        """Linears of the base that LoRA pairs adapt."""
        from peft.tuners.lora import LoraLayer

        from lingraft.penalties.trained import LowRank

        for name, module in self.model.named_modules():
            if isinstance(module, LoraLayer):
                yield from (LowRank(f"{name}.weight", module, adapter) for adapter in module.lora_A)

    def trained(self) -> Iterator[Trained]:
        """All weights of the base that training moves."""
        yield from self.full_rank()
        yield from self.low_rank()

    def precision(self) -> AbstractContextManager[Any]:
        """Within the block, the model computes in the precision of training."""
        import torch

        return nullcontext() if self.autocast is None else torch.autocast(self.device.type, self.autocast)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Within the block the model has no dropout. It is moved to the device of training, where it stays."""
        was_training = self.model.training
        self.model.to(self.device).eval()
        try:
            yield
        finally:
            self.model.train(was_training)

    def self_generated(self, count: int, number: int) -> Tensor:
        """(count, max_length) tokens that the base generates at temperature 1.

        The same `number` gives the same tokens, by `seed`. Random numbers of training are drawn as if this were not.

        Raises:
            ModelError: documents have neither BOS nor EOS.
        """
        import numpy as np
        import torch

        from lingraft.corpus.sample import sample

        with (
            self.evaluating(),
            self.precision(),
            torch.random.fork_rng([self.device] if self.device.type == "cuda" else []),
        ):
            torch.manual_seed(int(np.random.SeedSequence(self.seed, spawn_key=(number,)).generate_state(1)[0]))
            return sample(self.adaptation.plain, self.tokenizer, count, self.max_length).clone()
