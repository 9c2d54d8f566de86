"""The shape of a training method: a strict config with one verb, `apply(model) -> Adaptation`.

A method chooses what may move. The model that it gives back computes what the model that it was
given computes, until the first step; exactly the declared names train; and it goes back to a model
that others can load. The contract suite holds every method to these laws.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from lingraft.layer_groups import LayerRange

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from lingraft.nn.auxiliary_loss import LocalLoss

Export = Literal["plain", "wide-ffn", "wider", "deeper", "qwen2-moe", "remote-code"]
"""What a trained model is written as: the base's own architecture and shapes; its architecture with wider
feed-forward blocks, with these and a wider residual stream, or with more layers; a Qwen2-MoE; or the base's
architecture with code of its own beside it."""

PAPER_TRAINING: Mapping[str, Any] = {
    "learning_rate": 3e-4,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0.05,  # below 1: a share of all steps
    "weight_decay": 0.1,
    "adam_beta1": 0.9,
    "adam_beta2": 0.95,
    "adam_epsilon": 1e-5,
    "num_train_epochs": 1,
}
"""Settings of continued pretraining in arXiv 2509.11414, Table 23 (its batch size is not legible)."""


class TextToFit(NamedTuple):
    """Text on which a method sets what it does not train."""

    blocks: Tensor
    """Tokens (N, T)."""
    is_old: Tensor
    """Which of them are text of the base's (N, T)."""
    is_new: Tensor
    """Which are text of learned languages (N, T)."""
    special: Sequence[int] = ()
    """Tokens that stand for no text: marks of documents and of turns."""


Fit = Callable[[TextToFit], None]


@dataclass(frozen=True)
class Adaptation:
    """A model that is ready to train, and the ways back.

    `trainable` holds the names of the parameters that train, in the model's order.
    """

    model: nn.Module
    trainable: tuple[str, ...]
    exports: Mapping[Export, Callable[[], PreTrainedModel]]
    """Models with what was trained folded in, by their form; one is to be asked for, once: it spends the adaptation."""
    adapter: PeftModel | None = None
    """The same model as peft sees it, where the method has an adapter to save."""
    local_loss: LocalLoss | None = None
    """What the method adds to the loss inside its modules."""
    fit: Fit | None = None
    """Sets what depends on text, before the first step. The logits stay the same."""
    after_step: Callable[[], None] | None = None
    """Puts what trains back to where it may be, after each step of the optimizer."""
    without_decay: frozenset[str] = frozenset()
    """Of `trainable`, the parameters that weight decay leaves alone."""
    added_layers: frozenset[int] = frozenset()
    """Layers that the method put between those of the base."""
    rows: Mapping[str, int] = field(default_factory=dict)
    """Of `trainable`, the parameters of which rows from a number on train, and that `adapter` does not hold."""

    @property
    def plain(self) -> PreTrainedModel:
        """The causal language model inside whatever wraps it."""
        return self.model if self.adapter is None else self.adapter.get_base_model()  # type: ignore[return-value]


class Method(BaseModel, ABC):
    """A training method's settings; what a recipe's `method:` holds, less its name."""

    name: str
    """As the recipe says it; a method narrows this to the one word."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    training: ClassVar[Mapping[str, Any]] = PAPER_TRAINING
    """Defaults for the recipe's `training:`, the paper's."""
    needs_replay: ClassVar[bool] = False
    """Whether text that the base generates must train beside the new text."""

    @property
    def looks_at_text(self) -> bool:
        """Whether it sets something by old and new text before the first step (`Adaptation.fit`)."""
        return False

    def exports(self, config: Any) -> Sequence[Export]:
        """The forms that the trained model of a base with this config can be written in; the first is the default."""
        return ("plain",)

    def layers(self, depth: int) -> LayerRange:
        """The layer groups that this method parts a model of `depth` layers into; all in one, where it has no range.

        Raises:
            SelectionError: a range that does not fit the depth.
        """
        return LayerRange(first=depth, last=0, depth=depth)

    def check(self, config: Any) -> None:
        """Refuse an architecture that this method cannot train; `config` is that of a base.

        Raises:
            SelectionError: says what the architecture lacks, and which methods train it.
        """

    @abstractmethod
    def apply(self, model: PreTrainedModel) -> Adaptation:
        """Prepare `model`, which is changed in place, for training.

        Raises:
            SelectionError: a choice that the model does not have, or what `check` refuses.
        """


def adaptation(
    model: nn.Module,
    declared: set[str],
    exports: Mapping[Export, Callable[[], PreTrainedModel]],
    adapter: PeftModel | None = None,
    local_loss: LocalLoss | None = None,
) -> Adaptation:
    """Close an adaptation: exactly the declared parameters train, in float32."""
    import torch

    trainable = []
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name in declared
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
            trainable.append(name)
    assert set(trainable) == declared, f"declared but not there: {sorted(declared - set(trainable))[:5]}"
    return Adaptation(model, tuple(trainable), exports, adapter, local_loss)
