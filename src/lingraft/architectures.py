"""The architectures that can be trained: what their decoder layers hold, as a row of data each.

A row says which linears a layer has and how their names lie in files, which norms and biases stand beside them, how
logits are scaled, and what of lingraft applies. All other modules ask the row. Every architecture here has its layers
under `layers.N`, attention under `self_attn` and the feed-forward block under `mlp`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

QKV = ("q_proj", "k_proj", "v_proj")
ATTENTION_LINEARS = (*QKV, "o_proj")
GATE_UP = ("gate_proj", "up_proj")
FFN_LINEARS = (*GATE_UP, "down_proj")

PRE_NORM = ("input_layernorm", "post_attention_layernorm")
"""A norm before attention and before the feed-forward block, as in Llama."""
SANDWICH_NORM = (*PRE_NORM, "pre_feedforward_layernorm", "post_feedforward_layernorm")
"""A norm before and after both, as in Gemma 2."""
POST_NORM = ("post_attention_layernorm", "post_feedforward_layernorm")
"""A norm after both, as in OLMo 2."""

GATED = "gated_"
"""What the model type of an export with gated adapters begins with."""


@dataclass(frozen=True)
class Experts:
    """Feed-forward blocks of several experts (`mlp.experts`), of which a router takes a few for each token.

    In files each expert has a matrix for each linear, `experts.3.up_proj.weight`. In the live model of transformers 5
    a parameter holds those of all experts, `experts.gate_up_proj` of shape (experts, 2 * width, hidden_size).
    """

    width: str
    """Key of the config that holds the hidden units of an expert."""
    count: tuple[str, ...] = ("num_experts", "num_local_experts")
    """Keys of the config that hold the number of experts, by the version that wrote it."""
    linears: tuple[str, ...] = FFN_LINEARS
    """Of one expert, in files."""
    stacked: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"gate_up_proj": GATE_UP, "down_proj": ("down_proj",)}
    )
    """A parameter of all experts in the live model -> the linears whose rows it holds, in order."""
    router: str = "gate"
    """The module of `mlp` that scores experts, (experts, hidden_size)."""


@dataclass(frozen=True)
class Architecture:
    """What is particular to an architecture; the defaults are those of Mistral 7B."""

    title: str
    attention: tuple[str, ...] = ATTENTION_LINEARS
    """Linears of `self_attn`."""
    ffn: tuple[str, ...] = FFN_LINEARS
    """Linears of `mlp`."""
    fused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """A linear that holds the rows of several projections -> these projections, in order."""
    experts: Experts | None = None
    """What `mlp` holds where it has no linears of its own."""
    norms: tuple[str, ...] = PRE_NORM
    """Norms of the residual stream."""
    norms_add_one: bool = False
    """Whether a norm multiplies by 1 + its weight."""
    query_norm: Literal["head", "all"] | None = None
    """Norms of queries and keys: one head wide, or as wide as all heads."""
    biases: tuple[str, ...] = ()
    """Linears that have one whatever the config says."""
    bias_switches: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Key of the config, off by default -> linears that have a bias where it is on."""
    default_head: bool = False
    """Whether heads have a width of the architecture's own where the config states none."""
    heads_divide_width: bool = False
    """Whether transformers refuses a config whose heads do not divide `hidden_size`."""
    heads_fill_width: bool = False
    """Whether llama.cpp or vLLM take `hidden_size` for the width of all heads, whatever `head_dim` says."""
    numbers: tuple[str, ...] = ()
    """Parameters of one number that a layer has, such as those of an activation that is learned."""
    logits_multiplied_by: str | None = None
    """Key of the config that holds a factor of the logits."""
    logits_divided_by: str | None = None
    """Key of the config that holds a divisor of the logits."""
    needs: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the config that must have these values where they are stated."""
    language_model: str | None = None
    """Of a multimodal checkpoint: the `model_type` of its language model, which this row describes."""
    qwen2_moe_unless: tuple[str, ...] | None = None
    """Qwen2-MoE has the same attention and norms where these keys of the config are off; `None`: never."""

    @property
    def gated_adapters(self) -> bool:
        """Whether gated adapters can stand beside the feed-forward blocks, and be folded into them."""
        return self.ffn == FFN_LINEARS

    @property
    def wide_stream(self) -> bool:
        """Whether the residual stream can be wider: what enters a block is divided by a root mean square alone."""
        return self.gated_adapters and self.norms == PRE_NORM and not self.norms_add_one

    @property
    def writers(self) -> tuple[str, ...]:
        """What writes to the residual stream: the norms after both blocks, or the last linears of both."""
        after = tuple(norm for norm in POST_NORM if self.norms in (POST_NORM, SANDWICH_NORM))
        return after or (self.attention[-1], FFN_LINEARS[-1])

    @property
    def linears(self) -> tuple[str, ...]:
        """Every linear that LoRA adapts, by the last part of its module name."""
        return self.attention + self.ffn


_ATTENTION_BIAS = {"attention_bias": ATTENTION_LINEARS}
_ALL_BIASES = {**_ATTENTION_BIAS, "mlp_bias": FFN_LINEARS}

_GEMMA = Architecture("Gemma", norms_add_one=True, bias_switches=_ATTENTION_BIAS, default_head=True)
_GEMMA2 = replace(_GEMMA, title="Gemma 2", norms=SANDWICH_NORM)
_GEMMA3 = replace(_GEMMA2, title="Gemma 3, text", query_norm="head")

ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": Architecture(
        "Llama",
        bias_switches=_ALL_BIASES,
        heads_divide_width=True,
        qwen2_moe_unless=("attention_bias", "mlp_bias"),
    ),
    "mistral": Architecture("Mistral"),
    "qwen2": Architecture(
        "Qwen 2 and 2.5", biases=QKV, heads_fill_width=True, qwen2_moe_unless=("use_sliding_window",)
    ),
    "qwen3": Architecture("Qwen 3", query_norm="head", bias_switches=_ATTENTION_BIAS, default_head=True),
    "gemma": _GEMMA,
    "gemma2": _GEMMA2,
    "gemma3_text": _GEMMA3,
    "gemma3": replace(
        _GEMMA3, title="Gemma 3, the language model of the multimodal checkpoint", language_model="gemma3_text"
    ),
    "phi3": Architecture(
        "Phi 3 and 4",
        attention=("qkv_proj", "o_proj"),
        ffn=("gate_up_proj", "down_proj"),
        fused={"qkv_proj": QKV, "gate_up_proj": GATE_UP},
    ),
    "qwen3_moe": Architecture(
        "Qwen 3, mixtures of experts",
        ffn=(),
        experts=Experts("moe_intermediate_size"),
        query_norm="head",
        bias_switches=_ATTENTION_BIAS,
        needs={"mlp_only_layers": [], "decoder_sparse_step": 1},
    ),
    "olmoe": Architecture(
        "OLMoE",
        ffn=(),
        experts=Experts("intermediate_size"),
        query_norm="all",
        bias_switches=_ATTENTION_BIAS,
    ),
    "olmo2": Architecture("OLMo 2", norms=POST_NORM, query_norm="all", bias_switches=_ATTENTION_BIAS),
    "olmo3": Architecture("OLMo 3", norms=POST_NORM, query_norm="all", bias_switches=_ATTENTION_BIAS),
    "smollm3": Architecture("SmolLM 3", bias_switches=_ALL_BIASES),
    "ministral3": Architecture("Ministral 3, text", default_head=True),
    "granite": Architecture(
        "Granite", bias_switches=_ALL_BIASES, heads_fill_width=True, logits_divided_by="logits_scaling"
    ),
    "cohere2": Architecture(
        "Cohere 2 (Command R7B, Aya)",
        norms=("input_layernorm",),
        bias_switches=_ATTENTION_BIAS,
        logits_multiplied_by="logit_scale",
    ),
    "apertus": Architecture(
        "Apertus",
        ffn=("up_proj", "down_proj"),
        norms=("attention_layernorm", "feedforward_layernorm"),
        query_norm="head",
        bias_switches=_ATTENTION_BIAS,
        numbers=("mlp.act_fn.alpha_p", "mlp.act_fn.alpha_n"),
    ),
}
"""By the `model_type` of a config."""

_SHAPES = "its layers have different shapes: heads of full attention are wider than those of sliding attention"
_HYBRID = "most of its layers have linear attention, whose parameters have other names and no test here"
_LATENT = "it has latent attention (MLA), and AutoModelForCausalLM of transformers does not load it"
REFUSED: Mapping[str, str] = {
    "gemma4": _SHAPES,
    "gemma4_text": _SHAPES,
    "mistral4": _LATENT,
    "qwen3_5": _HYBRID,
    "qwen3_5_text": _HYBRID,
    "qwen3_next": _HYBRID,
}
"""`model_type` of what is often asked for and cannot be had -> why."""

EXPORTED = {"qwen2_moe", *(f"{GATED}{model_type}" for model_type in ARCHITECTURES)}
"""`model_type` of what lingraft itself exports beside these: it is measured, and is no base to train."""


def architecture_of(config: Any) -> Architecture:
    """The row of a model's config, that of a base also for its export with gated adapters; needs a supported one."""
    return ARCHITECTURES[str(config.model_type).removeprefix(GATED)]


def logit_scale(config: Any) -> float:
    """What a model multiplies the product of hidden states and head by; 1 for most architectures."""
    row = ARCHITECTURES.get(str(config.model_type).removeprefix(GATED))
    text = config.get_text_config()
    if row and row.logits_multiplied_by:
        return float(getattr(text, row.logits_multiplied_by))
    return 1 / float(getattr(text, row.logits_divided_by)) if row and row.logits_divided_by else 1.0


def is_supported(model_type: object) -> bool:
    """Whether a model of this type can be read."""
    return isinstance(model_type, str) and (model_type in ARCHITECTURES or model_type in EXPORTED)


def unsupported(model_type: object) -> str:
    """What to say of an architecture that has no row."""
    why = f" ({REFUSED[model_type]})" if isinstance(model_type, str) and model_type in REFUSED else ""
    return f"architecture '{model_type}' is not supported{why}; supported model types: {', '.join(ARCHITECTURES)}"
