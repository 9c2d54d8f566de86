"""What trains, by what the new language is for, as the papers and our own results have it."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from lingraft.layer_groups import depth
from lingraft.recipe.automatic import KL_WEIGHT, extra_width_of, has_silent_adapters, rate_of

Goal = Literal["comprehension", "translation", "balanced", "coverage"]


class PaperLayers(NamedTuple):
    """First and last layers of a paper's model, in proportion to another model's depth."""

    first: int
    last: int
    depth: int
    also: int
    """The fewest layers for which the paper takes the same numbers."""

    def of(self, layers: int | None) -> tuple[int, int]:
        """First and last of so many layers; the paper's own where they are not known."""
        if layers is None or layers >= self.also:
            return self.first, self.last
        return tuple(max(1, round(layers * count / self.depth)) for count in (self.first, self.last))  # type: ignore[return-value]


LAYRA_LAYERS = PaperLayers(10, 2, 32, also=28)
"""On Llama 3.1 8B, and on the 28 layers of Qwen 2.5 7B (arXiv 2509.11414 §3.2)."""
FREEZE_LAYERS = PaperLayers(9, 6, 34, also=34)
"""On Gemma 3 4B (arXiv 2606.00284 §2.2)."""


class Choice(NamedTuple):
    """A method, and why."""

    method: str
    """YAML, with the places `{first}`, `{last}` and `{width}`."""
    reason: str
    source: str
    kl_weight: float = KL_WEIGHT
    """Of self-generated replay with this method."""
    merge: str = ""
    """The recipe's `merge`, YAML."""
    layers: PaperLayers | None = None
    """Where the method, the merge or the reason names layers."""
    is_silent: bool = False
    """Whether it is silent adapters, which some bases cannot have, and whose rate is that of the width."""
    is_by_family: bool = False
    """Whether each family of languages is a run of its own."""


GOALS: dict[Goal, Choice] = {
    "balanced": Choice(
        "{{name: silent-adapters{width}}}",
        "copies of the base's units beside them, closed on its own text; the base is frozen. Measured, Chichewa onto "
        "SmolLM2-135M-Instruct: bits per byte of Chichewa, English and chat, and answers that begin as the base's: "
        "-35.0 %, 0.0 %, 0.0 %, 100 %; all weights (method full) without replay: -31.0 %, +4.5 %, +12.8 %, 10 % by "
        "AdamW, and -39.4 %, +38.8 %, +56.8 %, 0 % by Muon",
        "docs/results.md",
        is_silent=True,
    ),
    "comprehension": Choice(
        "{{name: freeze, first: {first}, last: {last}, embeddings: true}}",
        "the middle layers stay as they are: drift there is what costs reading comprehension, and freezing them "
        "keeps it best, 1.7 points above the base itself. Penalty l2sp is the softer choice",
        "arXiv 2606.00284 §1, §4.1, §4.2",
        layers=FREEZE_LAYERS,
    ),
    "translation": Choice(
        "{{name: full}}",
        "all weights train, then the middle layers go back to the base: the best translation of one model for all "
        "languages (54.0 chrF; as trained 53.8), with 8 points of the comprehension back that training took",
        "arXiv 2606.00284 §3.3, §3.4",
        merge="[{{revert: {{first: {first}, last: {last}}}}}]",
        layers=FREEZE_LAYERS,
    ),
    "coverage": Choice(
        "{{name: full}}",
        "one expert for each family of languages, then the mean of them all: second best in comprehension (0.711 of "
        "Belebele, frozen 0.716), and over the families 47.4 chrF of translation, where the experts have 44.1",
        "arXiv 2606.00284 §2.2, §3.3, §3.4",
        is_by_family=True,
    ),
}

WITHOUT_GATES = Choice(
    "{{name: full}}",
    "all weights, held to the base by text that the base generates; silent-adapters cannot be had for this base. "
    "Where all weights do not fit into memory: {{name: layra, first: {first}, last: {last}}} and no kl_weight",
    "docs/results.md",
    layers=LAYRA_LAYERS,
)
"""In place of silent adapters, where the base's feed-forward blocks are others."""


class Chosen(NamedTuple):
    """A choice for a base: what stands in a recipe."""

    choice: Choice
    method: str
    merge: str
    reason: str
    layers: tuple[int, int] | None
    """First and last, where the method or the merge has layer groups."""
    learning_rate: float | None
    """Where it is not the method's default."""


def choose(goal: Goal, config: Any, families: int = 1, proposed: tuple[int, int] | None = None) -> Chosen:
    """What a base of this config (None where it cannot be looked up) trains for a goal.

    A single family needs neither experts nor their mean: for it, `coverage` is `balanced`. `proposed` are first and
    last layers in place of the paper's.
    """
    choice = GOALS["balanced" if goal == "coverage" and families < 2 else goal]
    if choice.is_silent and config and not has_silent_adapters(config):
        choice = WITHOUT_GATES
    first, last = choice.layers.of(depth(config) if config else None) if choice.layers else (0, 0)
    has_layers = "{first}" in choice.method + choice.merge
    if has_layers and proposed:
        first, last = proposed
    extra = extra_width_of(config) if choice.is_silent and config else 0
    words = {"first": first, "last": last, "width": f", extra_width: {extra}" if extra else ""}
    rate = rate_of(config) if choice.is_silent and config else None
    method, merge, reason = (text.format(**words) for text in (choice.method, choice.merge, choice.reason))
    return Chosen(choice, method, merge, reason, (first, last) if has_layers else None, rate)
