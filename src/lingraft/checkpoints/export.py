"""Export a standard Hugging Face model, and verify the export by its logits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lingraft.cache import read_json, write_json
from lingraft.checkpoints.beside import config_like, copy_along, copy_tokenizer
from lingraft.checkpoints.read import read_model
from lingraft.disk import take_back
from lingraft.errors import LingraftError
from lingraft.nn.remote_code import has_own_code, write_code

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PROBE_TOKENS = 64


def write_model(model: PreTrainedModel, base: Path, folder: Path) -> None:
    """Save a model's weights, with the config, tokenizer and other files of the base that it was trained from."""
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig()  # the base's may be one that transformers reads but does not write
    model.save_pretrained(folder)
    take_back(folder / "generation_config.json")
    write_json(folder / "config.json", config_like(read_json(base / "config.json"), model))
    if has_own_code(model.config.model_type):
        write_code(model, folder)
    copy_tokenizer(base, folder)
    copy_along(base, folder)


def round_weights(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """Round the weights of a model once, in place; buffers, such as rotary frequencies, keep their type."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model


@torch.inference_mode()
def probe_logits(model: nn.Module, config: Any) -> Tensor:
    """Logits (1, T, V) in float32 for a fixed row of token ids, computed on the CPU in the model's own dtype."""
    vocab_size = config.get_text_config().vocab_size
    ids = torch.arange(_PROBE_TOKENS).mul(7919).remainder(vocab_size)[None]  # (1, T), spread over the vocabulary
    logits: Tensor = model.cpu().eval()(input_ids=ids, use_cache=False).logits.float()
    return logits


def verify_model(folder: Path, expected: Tensor, dtype: torch.dtype, tolerance: float = 0.0) -> float:
    """Load an exported model and compare its `probe_logits` with the expected logits.

    Returns the largest difference.

    Raises:
        LingraftError: the difference is above `tolerance`, or not a number.
    """
    model = read_model(folder, dtype)
    difference = float((probe_logits(model, model.config) - expected).abs().max())
    if not difference <= tolerance:
        raise LingraftError(
            f"{folder}: the written model's logits differ by {difference:.3g} from the live model's "
            f"(allowed: {tolerance:.3g}); please report this with recipe.resolved.yaml"
        )
    return difference
