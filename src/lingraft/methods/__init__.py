"""What may move while training: one small file a method, listed here."""

from lingraft.methods.base import Adaptation, Method
from lingraft.methods.full import Full
from lingraft.methods.layra import Layra
from lingraft.methods.lora import Lora

METHODS: dict[str, type[Method]] = {
    "full": Full,
    "lora": Lora,
    "layra": Layra,
}

__all__ = ["METHODS", "Adaptation", "Method"]
