"""Averages of weights while training: a moving average that is exported, and a periodic pull to the start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback

if TYPE_CHECKING:
    from lingraft.penalties.trained import Trained

_AVERAGES = "averages.safetensors"
"""Beside a checkpoint's weights."""


class Averages(TrainerCallback):
    """theta <- (1 - beta) theta + beta theta_0, periodically;  average <- ema average + (1 - ema) theta, at each step.

    `parameters` are all that train, by name; `trained` are weights of the base, which are pulled after each share
    `every` of the steps.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        trained: Sequence[Trained] = (),
        ema: float | None = None,
        every: float = 1.0,
        beta: float = 0.0,
    ) -> None:
        self._parameters, self._trained = parameters, trained
        self._ema, self._every, self._beta = ema, every, beta
        self._averages: dict[str, Tensor] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin the moving average, unless a checkpoint had one."""
        if self._ema is not None and not self._averages:
            self._averages = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Pull, where it is time, and take the weights into the average."""
        if self._beta and is_due(state.global_step + 1, state.max_steps, self._every):
            for weight in self._trained:
                weight.pull(self._beta)
        if self._ema is not None:
            for name, average in self._averages.items():
                average.lerp_(self._parameters[name], 1 - self._ema)

    def save(self, folder: Path) -> None:
        """Write the moving average beside a checkpoint."""
        if self._averages:
            save_file(
                {name: average.cpu().contiguous() for name, average in self._averages.items()}, folder / _AVERAGES
            )

    def load(self, folder: Path) -> None:
        """Read what `save` wrote, where there is a moving average."""
        if self._ema is not None:
            stored = load_file(folder / _AVERAGES)
            self._averages = {name: stored[name].to(parameter.device) for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def restore(self) -> None:
        """Put the moving average in place of the weights of the last step."""
        for name, average in self._averages.items():
            self._parameters[name].copy_(average)


def is_due(step: int, steps: int, every: float) -> bool:
    """Whether a pull comes after this step, counted from 1, of `steps`, where one comes after each share `every`."""
    return int(step / (every * steps) + 1e-9) > int((step - 1) / (every * steps) + 1e-9)
