"""Keys and values of recipes that were renamed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

RENAMED_KEYS: Mapping[str, str] = {
    "languages.heldout": "observe",
    "after": "merge",
    "merge.*.forget_at_most": "max_forgetting",
    "replay.self": "self_generated",
    "replay.strength": "kl_weight",
    "replay.batch": "batch_size",
    "vocabulary.add": "new_tokens",
    "validation.choice": "selection_share",
    "penalties.l2sp.strength": "weight",
    "method.alpha": "loss_weight",  # of neutral-residues and adapters; alpha is LoRA's
    "method.extra_weights": "extra_parameters",
    "evaluation.samples": "num_samples",
    "corpus.*.repeat": "max_epochs",
}
"""Place of a key in a recipe, or in one of its stages -> its name now. A `*` is the number of an entry."""

RENAMED_VALUES: Mapping[str, Mapping[str, str]] = {
    "vocabulary.init": {"pieces": "subtoken-mean", "pieces-norm": "subtoken-mean-norm"},
}


def new_key(place: Sequence[str]) -> str | None:
    """Return the new name of a key at a place; None if it was not renamed."""
    return RENAMED_KEYS.get(".".join(_without_numbers(place)))


def new_value(place: Sequence[str], value: object) -> str | None:
    """Return the new name of a value at a place; None if it was not renamed."""
    return RENAMED_VALUES.get(".".join(_without_numbers(place)), {}).get(str(value))


def _without_numbers(place: Sequence[str]) -> list[str]:
    inside = place[2:] if place[:1] == ["stages"] else place
    return ["*" if part.isdecimal() else part for part in inside]
