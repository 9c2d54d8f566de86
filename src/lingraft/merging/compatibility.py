"""Check that checkpoints can be merged, before the first byte is written."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from lingraft.errors import ModelError
from lingraft.layer_groups import ROWS_ARE_TOKENS
from lingraft.merging.source_model import SourceModel

logger = logging.getLogger(__name__)


def check_fit(parents: Sequence[SourceModel], force: bool = False) -> None:
    """Compare each parent with the first: architecture, tensors, shapes apart from the vocabulary, settings.

    `force`: differing settings give a warning, not an error.

    Raises:
        ModelError: names what differs, and where.
    """
    first = parents[0]
    for other in parents[1:]:
        if first.settings.model_type != other.settings.model_type:
            raise ModelError(
                f"{first.name} and {other.name} are different models: model_type is "
                f"{first.settings.model_type!r} and {other.settings.model_type!r}"
            )
        if first.is_tied != other.is_tied:
            tied, free = (first, other) if first.is_tied else (other, first)
            raise ModelError(
                f"{tied.name} uses its embeddings as its head, {free.name} has a head of its own; "
                "they cannot be combined tensor by tensor"
            )
        _check_names(first, other)
        for name, tensor in other.weights.items():
            at = first.weights[name]
            free_axes = 1 if name in ROWS_ARE_TOKENS else 0
            if tensor.shape[free_axes:] != at.shape[free_axes:] or len(tensor.shape) != len(at.shape):
                raise ModelError(
                    f"{other.name}: tensor '{tensor.name}' in {tensor.file.name} has shape {list(tensor.shape)}, "
                    f"{first.name} has {list(at.shape)}; only models of one architecture and size can be combined"
                )
        _check_settings(first, other, force)


def _check_settings(first: SourceModel, other: SourceModel, force: bool) -> None:
    """Compare settings: weights under other settings are another function, so means and differences are meaningless."""
    differ = first.settings.differing(other.settings)
    if not differ:
        return
    shown = ", ".join(f"{key} is {own!r} and {others!r}" for key, (own, others) in differ.items())
    if not force:
        raise ModelError(
            f"{first.name} and {other.name} are different models: {shown}; give models of one base, or --force, and "
            "the result has the settings of the model whose tokenizer it has"
        )
    logger.warning("%s and %s are taken for one model by force: %s", first.name, other.name, shown)


def _check_names(first: SourceModel, other: SourceModel) -> None:
    for has, lacks in ((first, other), (other, first)):
        missing = [name for name in has.weights if name not in lacks.weights]
        if missing:
            more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
            raise ModelError(
                f"{lacks.name} has no tensor '{has.weights[missing[0]].name}'{more}, {has.name} has; "
                "only models of one architecture and size can be combined"
            )
