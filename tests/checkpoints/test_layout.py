"""One law for every command: the files of a model hold what its config asks for."""

from __future__ import annotations

import pytest
from transformers import AutoModelForCausalLM

from lingraft.architectures import ARCHITECTURES
from lingraft.checkpoints.config import read_config_file
from lingraft.checkpoints.layout import Settings, _tensors
from lingraft.checkpoints.read import empty_model, read_config
from lingraft.checkpoints.weights import find_weights
from lingraft.layer_groups import canonical_name
from tiny_architectures import tiny_config

pytestmark = pytest.mark.integration

SMALL = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": None,
}  # fmt: skip
LANGUAGE_MODELS = [kind for kind, row in ARCHITECTURES.items() if not row.language_model]
KINDS = {kind: (kind, {}) for kind in ARCHITECTURES}
KINDS |= {
    f"{kind} with {switch}": (kind, {switch: True})
    for kind in LANGUAGE_MODELS
    for switch in ("attention_bias", "mlp_bias")
}
KINDS |= {f"{kind} with wide heads": (kind, {"head_dim": 24}) for kind in LANGUAGE_MODELS}
del KINDS["olmoe with wide heads"]  # transformers' own model of it cannot compute: its norms have another width


@pytest.mark.parametrize(("kind", "settings"), KINDS.values(), ids=KINDS)
def test_the_tensors_of_a_config_are_those_of_the_librarys_model(tmp_path, kind, settings) -> None:
    config = tiny_config(kind, SMALL, **settings)
    config.save_pretrained(tmp_path)
    model = empty_model(read_config(tmp_path))
    found = {canonical_name(name): tuple(of.shape) for name, of in model.named_parameters(remove_duplicate=False)}
    found = {name: shape for name, shape in found.items() if "vision_tower" not in name and "projector" not in name}
    if ARCHITECTURES[kind].experts:  # files have a matrix for each expert, the live model one parameter for all
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
        found = {canonical_name(name): tensor.shape for name, tensor in find_weights(tmp_path).items()}
    assert _tensors(Settings(tmp_path, read_config_file(tmp_path))) == found
