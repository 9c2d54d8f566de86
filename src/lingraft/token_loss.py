"""Cross-entropy of each token without ever holding all logits.

    loss[n] = -ln softmax(softcap(h_n W^T))[target_n]

The logits of a batch, 16,384 tokens over 128,256 rows, are 8 GiB in float32, several times over in
training. Here they exist a chunk at a time, for scoring and for training.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import CausalLMOutput

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LOGITS_PER_CHUNK = 2**25
"""Logits in memory at a time: 128 MiB in float32, for any vocabulary and number of tokens."""

IGNORED = -100


def token_losses(model: PreTrainedModel, hidden: Tensor, targets: Tensor) -> Tensor:
    """The loss of each target in float32, 0 where it is `IGNORED`.

    `hidden` (N, D) is what the decoder gives, `targets` (N,) the next tokens; the result is (N,).
    In training each chunk's logits are computed again in the backward pass.
    """
    head = model.get_output_embeddings()
    text = model.config.get_text_config()
    softcap = getattr(text, "final_logit_softcapping", None)

    def losses(part: Tensor, target: Tensor) -> Tensor:
        logits = head(part).float()  # (chunk, V)
        if softcap is not None:  # Gemma 2
            logits = torch.tanh(logits / softcap) * softcap
        return cross_entropy(logits, target, ignore_index=IGNORED, reduction="none")

    chunk = max(1, LOGITS_PER_CHUNK // text.vocab_size)
    if len(targets) <= chunk:
        return losses(hidden, targets)
    parts = zip(hidden.split(chunk), targets.split(chunk), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([losses(*part) for part in parts])
    return torch.cat([checkpoint(losses, *part, use_reentrant=False, preserve_rng_state=False) for part in parts])


@contextmanager
def returning_token_losses(model: PreTrainedModel) -> Iterator[None]:
    """Within the block the model, called with `labels` (B, T), gives a `loss` of each token, (B, T - 1).

    The change is in the model's own forward, so that it holds whatever wraps the model: peft,
    autocast, several processes.
    """

    def forward(input_ids: Tensor, labels: Tensor, **_: Any) -> CausalLMOutput:
        hidden = model.get_decoder()(input_ids=input_ids, use_cache=False).last_hidden_state  # (B, T, D)
        losses = token_losses(model, hidden[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return CausalLMOutput(loss=losses.view(len(labels), -1))

    model.forward = forward
    try:
        yield
    finally:
        del model.forward
