"""Gates: the singular values of the gating matrices, and how open the gates of blocks are by language.

    sigma_i(W_g) / sigma_1(W_g)   of each layer's adapter (arXiv 2410.02744 Figure 3)
    mean over tokens of |g(x)|    of each layer and language, where blocks have gates

beside the mean of the base's own gating matrices. A matrix of few large singular values has learned few directions that
open it; one at its random start has many alike. Gates of neutral residues should stay near 0 on old text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lingraft.checkpoints.adapters import FILE
from lingraft.checkpoints.mmap_weights import MappedWeights
from lingraft.diagnosis.base import Diagnosis, Drawing, Settings, Table, percent
from lingraft.diagnosis.finished_run import FinishedRun
from lingraft.errors import ModelError
from lingraft.evaluation.gate_activations import gate_activity
from lingraft.evaluation.measure import document_tokenizer, model_to_measure
from lingraft.layer_groups import layer_index
from lingraft.reporting.figures import Figure, curves
from lingraft.reporting.read import language_name

_GATING = re.compile(r"gated_adapter\.(?:[^.]+\.)?gate_proj\.weight$")
_OF_BASE = re.compile(r"\.mlp\.gate_proj\.weight$")
POINTS = 101
"""At which the singular values of a matrix are kept, evenly spaced over their order."""

_BASE = "base, mean of its own"
MOST_LINES = 8
"""Layers that are drawn, evenly spaced; the table has all."""


def _measure(given: Path, settings: Settings) -> dict[str, Any]:
    run = FinishedRun(given)
    matrices = _gating_matrices(run)
    weights = MappedWeights(run.base.folder)
    own = [spectrum(weights[name].float()) for name in weights.names if _OF_BASE.search(name)]
    return {
        **run.names,
        "singular_values": {str(layer): spectrum(matrix) for layer, matrix in matrices.items()},
        "of_base": [sum(at) / len(own) for at in zip(*own, strict=True)],
        "activity": _activity(run, settings.max_documents),
    }


def _gating_matrices(run: FinishedRun) -> dict[int, Tensor]:
    """W_g of each layer's adapter, in order.

    Raises:
        ModelError: the run has no `adapter/`, or one of another kind.
    """
    from safetensors.torch import load_file

    file = run.folder / "adapter" / FILE
    names = load_file(file) if file.is_file() else {}
    found = {layer_index(name): weight.float() for name, weight in names.items() if _GATING.search(name)}
    if not found:
        raise ModelError(
            f"{run.folder}: there is no adapter/ with gated blocks; diagnose a run of adapters or neutral-residues, of "
            "one stage and without new tokens, after which no adapter/ is left"
        )
    return {layer: found[layer] for layer in sorted(layer for layer in found if layer is not None)}


def spectrum(matrix: Tensor) -> list[float]:
    """Singular values divided by the largest, at `POINTS` places evenly spaced from the first to the last."""
    values = torch.linalg.svdvals(matrix)
    places = torch.linspace(0, len(values) - 1, POINTS).round().long()
    return [float(value) for value in (values / values[0])[places]]


def _activity(run: FinishedRun, max_documents: int | None) -> dict[str, list[float]]:
    """Language -> mean |g| by layer; empty where blocks have no gates."""
    from datasets import Dataset
    from peft import PeftModel

    import lingraft.nn.peft_adapter  # noqa: F401 - so that peft knows the adapter

    folder = run.base.folder
    adapter = str(run.folder / "adapter")
    model = PeftModel.from_pretrained(model_to_measure(folder), adapter, trust_remote_code=False)
    tokenizer = document_tokenizer(folder, run.marks(folder))
    blocks = {}
    for code, documents in run.texts.items():
        rows = [(tokenizer.bos_ids + ids)[: run.recipe.length] for ids in tokenizer.encode(documents[:max_documents])]
        blocks[code] = Dataset.from_dict({"input_ids": [row for row in rows if row]})
    return gate_activity(model.get_base_model(), blocks)


def _draw(result: dict[str, Any]) -> Drawing:
    spectra: Mapping[str, list[float]] = result["singular_values"]
    step = -(-len(spectra) // MOST_LINES)
    shown = {f"layer {layer}": values for layer, values in list(spectra.items())[::step]}
    if result["of_base"]:
        shown[_BASE] = result["of_base"]
    lines = {
        name: [(100 * i / (POINTS - 1), value) for i, value in enumerate(values)] for name, values in shown.items()
    }
    title = "Singular values of the gating matrices, divided by the largest, by their order in percent"
    figures: list[tuple[str, Figure]] = [
        (title, curves(lines, list(lines), [_BASE], "% of all", "of the largest", 360))
    ]
    of_all = {**{f"layer {layer}": values for layer, values in spectra.items()}, _BASE: result["of_base"]}
    rows = [
        [name, f"{values[POINTS // 10]:.3f}", f"{values[POINTS // 2]:.3f}", f"{values[-1]:.3f}"]
        for name, values in of_all.items()
        if values
    ]
    tables = [Table("Singular values", ["gating matrix", "a tenth down the order", "half down", "smallest"], rows)]
    activity: Mapping[str, list[float]] = result["activity"]
    if activity:
        drawn = {language_name(code): [(x, y / 100) for x, y in percent(of)] for code, of in activity.items()}
        figures.append(
            ("Mean activation of the gates by layer", curves(drawn, list(drawn), across="layer", unit="", height=360))
        )
        means = [[language_name(code), f"{sum(of) / len(of):.3f}"] for code, of in activity.items()]
        tables.append(Table("Activation", ["language", "mean over layers"], means))
    return Drawing(figures, tables)


GATES = Diagnosis(
    "gates",
    _measure,
    _draw,
    lambda result: (
        "How many directions open the gates (the singular values of each gating matrix, divided by the largest; arXiv "
        "2410.02744, Figure 3), and how open the gates are on text of each language."
    ),
)
