"""Cross-entropy of each token without ever holding all logits.

    loss[n] = -ln softmax(softcap(scale h_n W^T))[target_n]

The logits of a batch, 16,384 tokens over 128,256 rows, are 8 GiB in float32, several times over in
training. Here they exist a chunk at a time, for scoring and for training.

Where a teacher's distribution p stands beside the text, of its K likeliest tokens, the loss is

    KL = sum_k p_k ln(p_k / q_k) + p_rest ln(p_rest / q_rest)

with all other tokens of the teacher's as one: what its whole distribution would give is at least that. Tokens that
came in after the teacher have p = 0, and what the model gives them is taken from all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import CausalLMOutput

from lingraft.architectures import logit_scale

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LOGITS_PER_CHUNK = 2**25
"""Logits in memory at a time: 128 MiB in float32, for any vocabulary and number of tokens."""

IGNORED = -100

_LEAST_REST = 1e-6
"""Below it, the share of all other tokens is not told from nothing, so that its logarithm is a number."""


def token_losses(model: PreTrainedModel, hidden: Tensor, targets: Tensor) -> Tensor:
    """The loss of each target in float32, 0 where it is `IGNORED`.

    `hidden` (N, D) is what the decoder gives, `targets` (N,) the next tokens; the result is (N,).
    In training each chunk's logits are computed again in the backward pass.
    """

    def losses(logits: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(logits, target, ignore_index=IGNORED, reduction="none")

    return _in_chunks(model, losses, hidden, targets)


def distillation_kl(
    model: PreTrainedModel, hidden: Tensor, tokens: Tensor, log_probs: Tensor, first_new: int | None = None
) -> Tensor:
    """KL, (N,), of the teacher's distribution from the model's.

    `hidden` (N, D) is what the decoder gives; `tokens` and `log_probs` (N, K) are the teacher's
    likeliest next tokens and ln p of each. Tokens from `first_new` on are none of the teacher's.
    """

    def losses(logits: Tensor, token: Tensor, log_p: Tensor) -> Tensor:
        total = logits.logsumexp(1)
        log_q = logits.gather(1, token) - total[:, None]  # (chunk, K)
        log_known = 0 if first_new is None else logits[:, :first_new].logsumexp(1) - total
        log_p = log_p.float()
        rest_p = (1 - log_p.exp().sum(1)).clamp(min=0)
        share = (log_q.logsumexp(1) - log_known).clamp(max=-_LEAST_REST)  # ln of what the K are of all that it knows
        log_rest_q = log_known + torch.log1p(-share.exp())
        return (log_p.exp() * (log_p - log_q)).sum(1) + torch.xlogy(rest_p, rest_p) - rest_p * log_rest_q

    return _in_chunks(model, losses, hidden, tokens, log_probs)


@torch.no_grad()
def top_k_log_probs(model: PreTrainedModel, hidden: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The likeliest next tokens after `hidden` (N, D), best first, and ln p of each: both (N, count)."""

    def best(logits: Tensor) -> Tensor:
        log_probs, tokens = (logits - logits.logsumexp(1, keepdim=True)).topk(count)
        return torch.stack([tokens.double(), log_probs.double()], dim=1)  # (chunk, 2, count)

    tokens, log_probs = _in_chunks(model, best, hidden).unbind(1)
    return tokens.long(), log_probs.float()


def _in_chunks(model: PreTrainedModel, of_logits: Callable[..., Tensor], hidden: Tensor, *others: Tensor) -> Tensor:
    """`of_logits(logits (chunk, V), …)` of all tokens, end to end."""
    head = model.get_output_embeddings()
    text = model.config.get_text_config()
    softcap = getattr(text, "final_logit_softcapping", None)
    scale = logit_scale(model.config)

    def of_hidden(part: Tensor, *rest: Tensor) -> Tensor:
        logits = head(part).float()  # (chunk, V)
        if scale != 1:  # Granite, Cohere 2
            logits = logits * scale
        if softcap is not None:  # Gemma 2
            logits = torch.tanh(logits / softcap) * softcap
        return of_logits(logits, *rest)

    chunk = max(1, LOGITS_PER_CHUNK // text.vocab_size)
    if len(hidden) <= chunk:
        return of_hidden(hidden, *others)
    parts = zip(*(tensor.split(chunk) for tensor in (hidden, *others)), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([of_hidden(*part) for part in parts])
    return torch.cat([checkpoint(of_hidden, *part, use_reentrant=False, preserve_rng_state=False) for part in parts])


@contextmanager
def per_token_loss(model: PreTrainedModel, first_new: int | None = None) -> Iterator[None]:
    """Within the block the model, called with `labels` (B, T), gives a `loss` of each token, (B, T - 1).

    The last R rows may have a teacher, `taught` = (tokens, log_probs), both (R, T - 1, K); their loss
    is the KL from it; tokens from `first_new` on are none of the teacher's. The change is in the model's own forward,
    so that it holds whatever wraps the model: peft, autocast, several processes.
    """

    def forward(
        input_ids: Tensor, labels: Tensor, taught: tuple[Tensor, Tensor] | None = None, **_: Any
    ) -> CausalLMOutput:
        hidden = model.get_decoder()(input_ids=input_ids, use_cache=False).last_hidden_state[:, :-1]  # (B, T - 1, D)
        alone = len(labels) - (len(taught[0]) if taught else 0)
        losses = token_losses(model, hidden[:alone].flatten(0, 1), labels[:alone, 1:].flatten())
        if taught:
            tokens, log_probs = (tensor.flatten(0, 1) for tensor in taught)
            of_taught = distillation_kl(model, hidden[alone:].flatten(0, 1), tokens, log_probs, first_new)
            losses = torch.cat([losses, of_taught])
        return CausalLMOutput(loss=losses.view(len(labels), -1))

    model.forward = forward
    try:
        yield
    finally:
        del model.forward
