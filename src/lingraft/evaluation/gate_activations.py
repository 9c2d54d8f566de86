"""Mean gate activation of adapters by language; neutral residues should stay near 0 on old text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lingraft.nn.gated_adapter import GatedAdapter

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel

_ROWS = 16


@torch.inference_mode()
def gate_activity(model: PreTrainedModel, blocks: Mapping[str, Dataset]) -> dict[str, list[float]]:
    """By language, the mean of |g(x)| over tokens, for each layer in order; empty where no layer has a gate."""
    gated = [
        (module, module.block_gate)
        for module in model.modules()
        if isinstance(module, GatedAdapter) and module.block_gate is not None
    ]
    sums: list[Tensor] = []

    def seen_by(adapter: GatedAdapter) -> Callable[[Any, Any, Tensor], None]:
        return lambda module, inputs, logits: sums.append(adapter.gates(logits).abs().float().sum())

    hooks = [block_gate.register_forward_hook(seen_by(adapter)) for adapter, block_gate in gated]
    model.eval()
    try:
        found = {}
        for code, rows in blocks.items() if gated else ():
            total, count = torch.zeros(len(gated), dtype=torch.double), 0
            for row in rows[:_ROWS]["input_ids"]:
                sums.clear()
                model.get_decoder()(input_ids=torch.as_tensor(row, device=model.device)[None], use_cache=False)
                total += torch.stack(sums).cpu().double()
                count += len(row)
            found[code] = (total / count).tolist()
        return found
    finally:
        for hook in hooks:
            hook.remove()
