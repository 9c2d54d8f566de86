"""Tiny shapes of every architecture: a row of `lingraft.architectures` has a row here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import transformers

from lingraft.architectures import ARCHITECTURES

VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
VISION |= {"image_size": 28, "patch_size": 14}

TINY: Mapping[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {},
    "qwen2": {},
    "qwen3": {},
    "gemma": {},
    "gemma2": {},
    "gemma3_text": {},
    "gemma3": {"vision_config": VISION, "mm_tokens_per_image": 4},
    "phi3": {},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "olmo2": {},
    "olmo3": {},
    "smollm3": {},
    "ministral3": {},
    "granite": {"logits_scaling": 4.0},
    "cohere2": {"logit_scale": 0.25},
    "apertus": {},
}
"""What a config needs beside the shape that all architectures share; of a multimodal one, of its outer part."""


def tiny_config(model_type: str, shape: Mapping[str, Any], **outer: Any) -> Any:
    """The config of a tiny model: `shape` is the language model's, `outer` what else the outermost config says."""
    inner = ARCHITECTURES[model_type].language_model
    if inner is None:
        return transformers.CONFIG_MAPPING[model_type](**{**shape, **TINY[model_type], **outer})
    text = transformers.CONFIG_MAPPING[inner](**{**shape, **TINY[inner]})
    return transformers.CONFIG_MAPPING[model_type](text_config=text, **TINY[model_type], **outer)


def tied_by_default(model_type: str) -> bool:
    """Whether the head of an architecture is its embeddings where the config says nothing."""
    return bool(transformers.CONFIG_MAPPING[model_type]().tie_word_embeddings)
