"""What may move while training: one small file a method, listed here."""

from lingraft.methods.adapters import Adapters
from lingraft.methods.base import Adaptation, Export, Fit, Method, TextToFit
from lingraft.methods.block_expansion import BlockExpansion
from lingraft.methods.embeddings import Embeddings
from lingraft.methods.freeze import Freeze
from lingraft.methods.full import Full
from lingraft.methods.half import Half
from lingraft.methods.layer_selective import LayerSelective
from lingraft.methods.layra import Layra
from lingraft.methods.lora import Lora
from lingraft.methods.lora_ffn import LoraFfn
from lingraft.methods.neutral_residues import NeutralResidues
from lingraft.methods.silent_adapters import SilentAdapters
from lingraft.methods.source_shielded import SourceShielded

METHODS: dict[str, type[Method]] = {
    "full": Full,
    "layer-selective": LayerSelective,
    "freeze": Freeze,
    "half": Half,
    "source-shielded": SourceShielded,
    "embeddings": Embeddings,
    "lora": Lora,
    "layra": Layra,
    "lora-ffn": LoraFfn,
    "adapters": Adapters,
    "neutral-residues": NeutralResidues,
    "block-expansion": BlockExpansion,
    "silent-adapters": SilentAdapters,
}

__all__ = ["METHODS", "Adaptation", "Export", "Fit", "Method", "TextToFit"]
