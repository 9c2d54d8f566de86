"""Models that travel with the code that computes them: written beside the weights, known here by name.

`AutoModelForCausalLM.from_pretrained(DIR, trust_remote_code=True)` needs transformers alone. Here the same
code is ours already, so what lies in a folder is never run.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from lingraft.nn.gated_model import GATED, gated_classes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_MODULE = "modeling_gated"
_FILES = ("gated_adapter.py", "gated_model.py")


def auto_map(config_class: type, model_class: type) -> dict[str, str]:
    """What a config says of its code."""
    names = {"AutoConfig": config_class.__name__, "AutoModelForCausalLM": model_class.__name__}
    return {auto: f"{_MODULE}.{name}" for auto, name in names.items()}


def has_own_code(model_type: str) -> bool:
    """Whether a model of this type needs code beside its weights."""
    return model_type.startswith(GATED)


def write_code(model: PreTrainedModel, folder: Path) -> None:
    """Put the code of a model beside its weights."""
    here = Path(__file__).parent
    for name in _FILES:
        shutil.copyfile(here / name, folder / name)
    config, plain_config = type(model.config).__name__, type(model.config).__mro__[1].__name__
    name, plain = type(model).__name__, type(model).__mro__[1].__name__
    (folder / f"{_MODULE}.py").write_text(
        f'"""{plain} with gated adapters beside its feed-forward blocks."""\n\n'
        f"from transformers import {plain_config}, {plain}\n\n"
        "from .gated_model import gated_classes\n\n"
        f"{config}, {name} = gated_classes({plain_config}, {plain}, __name__)\n",
        encoding="utf-8",
    )


def register(model_type: str) -> None:
    """Let transformers find our classes for a model type that begins with `gated_`.

    Raises:
        KeyError: an architecture that transformers does not have.
    """
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM

    plain = CONFIG_MAPPING[model_type.removeprefix(GATED)]
    config, model = gated_classes(plain, MODEL_FOR_CAUSAL_LM_MAPPING[plain])  # type: ignore[arg-type]
    AutoConfig.register(model_type, config, exist_ok=True)
    AutoModelForCausalLM.register(config, model, exist_ok=True)
