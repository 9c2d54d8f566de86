"""Models that travel with the code that computes them: written beside the weights, known here by name.

`AutoModelForCausalLM.from_pretrained(DIR, trust_remote_code=True)`, or `AutoModel`, needs transformers alone.
Here the same code is ours already, so what lies in a folder is never run.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.nn.gated_model import GATED, gated_classes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_MODULE = "modeling_gated"
_FILES = ("gated_adapter.py", "gated_model.py")


def gated_types(plain_config: type) -> tuple[Any, ...]:
    """The config, the causal language model and the model without a head, with adapters, of an architecture."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_MAPPING

    return gated_classes(plain_config, MODEL_FOR_CAUSAL_LM_MAPPING[plain_config], MODEL_MAPPING[plain_config])


def auto_map(config_class: type, model_class: type, body_class: type) -> dict[str, str]:
    """What a config says of its code."""
    names = {"AutoConfig": config_class, "AutoModelForCausalLM": model_class, "AutoModel": body_class}
    return {auto: f"{_MODULE}.{cls.__name__}" for auto, cls in names.items()}


def has_own_code(model_type: str) -> bool:
    """Whether a model of this type needs code beside its weights."""
    return model_type.startswith(GATED)


def write_code(model: PreTrainedModel, folder: Path) -> None:
    """Put the code of a model beside its weights."""
    here = Path(__file__).parent
    for name in _FILES:
        shutil.copyfile(here / name, folder / name)
    plain_config = type(model.config).__mro__[1]
    classes = gated_types(plain_config)
    plain = [cls.__mro__[1].__name__ for cls in classes]
    (folder / f"{_MODULE}.py").write_text(
        f'"""{plain[1]} with gated adapters beside its feed-forward blocks."""\n\n'
        f"from transformers import {', '.join(sorted(plain))}\n\n"
        "from .gated_model import gated_classes\n\n"
        f"{', '.join(of.__name__ for of in classes)} = gated_classes(\n    {', '.join(plain)}, module=__name__\n)\n",
        encoding="utf-8",
    )


def register(model_type: str) -> None:
    """Let transformers find our classes for a model type that begins with `gated_`.

    Raises:
        KeyError: an architecture that transformers does not have.
    """
    from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, AutoModelForCausalLM

    config, model, body = gated_types(CONFIG_MAPPING[model_type.removeprefix(GATED)])
    AutoConfig.register(model_type, config, exist_ok=True)
    AutoModelForCausalLM.register(config, model, exist_ok=True)
    AutoModel.register(config, body, exist_ok=True)
