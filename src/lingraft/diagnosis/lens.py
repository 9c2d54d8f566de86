"""Logit lens: in which language, and in which script, each layer would go on.

    p_l = softmax(W_head norm(h_l)),   the likeliest token of each position, for the states h_l after each layer

Layers that decode to another language than the text's work in that language, or in none: the three stages (into a
common space, within it, and out of it) behind first, middle and last layers (arXiv 2509.11414 §2.2). A token's language
is told by how often it stands in each language of the run, and its script by its letters:

    P(language | token) = count / total of the language + e, divided by its sum over languages

with e half a token of the shortest text, the same for all, so that a short text does not claim what it has not.

Tokens that no language has are `unknown`; letters alone have a script.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pycountry
import torch
from torch import Tensor

from lingraft.diagnosis.base import Diagnosis, Drawing, Settings, Table, shares_by_layer
from lingraft.diagnosis.finished_run import FinishedRun
from lingraft.evaluation.measure import document_tokenizer, model_to_measure
from lingraft.reporting.figures import Figure
from lingraft.reporting.read import language_name

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lingraft.corpus.tokenize import DocumentTokenizer

UNKNOWN = "unknown"
WINDOWS = 16
"""Of each language that are decoded, each of `LONGEST` tokens at most."""
LONGEST = 128
SMOOTHING = 0.5
"""Tokens of the shortest text."""
LEAST = 0.05
"""Share of a language or a script, after some layer, below which it is not drawn."""


class TokenLanguages:
    """The unigram identifier: token -> the probability of each language."""

    def __init__(self, rows: Mapping[str, Sequence[Sequence[int]]], vocabulary: int) -> None:
        counts = np.array([np.bincount(np.concatenate([*map(list, of), []]).astype(int), minlength=vocabulary)
                           for of in rows.values()])  # (languages, tokens)  # fmt: skip
        totals = counts.sum(1, keepdims=True).clip(min=1)
        smooth = counts / totals + SMOOTHING / totals.min()
        self.languages = [*rows, UNKNOWN]
        known = np.where(counts.sum(0) > 0, smooth / smooth.sum(0), 0.0)
        self.table = np.vstack([known, counts.sum(0) == 0])  # (languages + 1, tokens)

    def shares(self, tokens: Sequence[int]) -> dict[str, float]:
        """The mean probability of each language over tokens."""
        return dict(zip(self.languages, self.table[:, list(tokens)].mean(1).tolist(), strict=True))


def script_of(text: str) -> str | None:
    """The script of a token, that of its first letter, in Unicode's words; None without a letter."""
    for character in text:
        word = unicodedata.name(character, " ").split(" ")[0].lower() if character.isalpha() else ""
        if word in _scripts():
            return "han" if word == "cjk" else word
    return None


@cache
def _scripts() -> frozenset[str]:
    """First words of the names of scripts, as Unicode's names of letters begin with them."""
    real = (script.name.split()[0].lower() for script in pycountry.scripts if not script.alpha_4.startswith("Z"))
    return frozenset([*real, "cjk"])  # Z… are notations and codes for none


@torch.no_grad()
def likeliest(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """By layer, the embeddings first: the likeliest next token of each position of all rows."""
    model.eval()
    decoder: Any = model.get_decoder()
    head: Any = model.get_output_embeddings()
    found: list[list[int]] = []
    for row in rows:
        made = decoder(input_ids=torch.tensor([row], device=model.device), output_hidden_states=True, use_cache=False)
        states: tuple[Tensor, ...] = made.hidden_states
        # The last of the states has been through the final norm.
        for layer, state in enumerate(states):
            logits = head(state if layer == len(states) - 1 else decoder.norm(state))
            if len(found) == layer:
                found.append([])
            found[layer] += logits[0].argmax(-1).tolist()
    return found


def lens(
    model: PreTrainedModel, tokenizer: DocumentTokenizer, texts: Mapping[str, Sequence[str]], longest: int
) -> dict[str, Any]:
    """By language of the text: `languages` and `scripts`, each name -> share by layer, the embeddings first.

    `of_text` is the share of its own language in the text itself, which other languages' common tokens keep below 1.
    """
    ids = {code: tokenizer.encode(documents) for code, documents in texts.items()}
    embeddings: Any = model.get_input_embeddings()
    identify = TokenLanguages(ids, embeddings.weight.shape[0])
    names: dict[int, str | None] = dict.fromkeys(
        tokenizer.tokenizer.added_tokens_decoder
    )  # marks, which have no script
    found = {}
    for code, of in ids.items():
        rows = [(tokenizer.bos_ids + row)[: min(LONGEST, longest)] for row in of[:WINDOWS] if row]
        layers = likeliest(model, rows)
        for token in {token for tokens in layers for token in tokens} - names.keys():
            names[token] = script_of(str(tokenizer.tokenizer.decode([token])))
        scripts = [Counter(names[token] for token in tokens if names[token]) for tokens in layers]
        told = [identify.shares(tokens) for tokens in layers]
        found[code] = {
            "of_text": identify.shares([token for row in rows for token in row])[code],
            "languages": {name: [of_layer[name] for of_layer in told] for name in identify.languages},
            "scripts": {
                name: [of_layer[name] / max(1, of_layer.total()) for of_layer in scripts]
                for name in sorted({str(name) for of_layer in scripts for name in of_layer})
            },
        }
    return found


def _measure(given: Path, settings: Settings) -> dict[str, Any]:
    run = FinishedRun(given)
    texts = {code: documents[: settings.max_documents] for code, documents in run.texts.items()}
    models = {"base": run.base.folder, "result": run.model}
    found = {
        name: lens(model_to_measure(folder), document_tokenizer(folder, run.marks(folder)), texts, run.recipe.length)
        for name, folder in models.items()
    }
    return {**run.names, "models": found}


def _draw(result: dict[str, Any]) -> Drawing:
    figures, rows = list[tuple[str, Figure]](), list[list[str]]()
    for model, of_model in result["models"].items():
        for code, of in of_model.items():
            for what, lines in (("language", of["languages"]), ("script", of["scripts"])):
                shown = {_named(what, name): shares for name, shares in lines.items() if max(shares[1:]) >= LEAST}
                title = f"{model}, text in {language_name(code)}: {what} of the likeliest token by layer"
                if what == "language" or len(shown) > 1:
                    figures.append((title, shares_by_layer(shown)))
            ends = {name: shares[-1] for name, shares in of["languages"].items()}
            own = ends.pop(code)
            other = max(ends, key=lambda name: ends[name])
            told = [f"{100 * share:.0f} %" for share in (of["of_text"], own, ends[other])]
            told[-1] += f" {_named('language', other)}"
            rows.append([f"{model}, {language_name(code)}", *told])
    head = ["model and text", "own language, in the text itself", "in the likeliest tokens", "most of any other"]
    return Drawing(figures, [Table("The language of the likeliest token after the last layer", head, rows)])


def _named(what: str, name: str) -> str:
    return language_name(name) if what == "language" and name != UNKNOWN else name


LENS = Diagnosis(
    "lens",
    _measure,
    _draw,
    lambda result: (
        "Which language and script each layer would go on in (logit lens): the final norm and the head read the states "
        f"after each layer, of {WINDOWS} documents of each language. A token’s language is told by how often it "
        "stands in each language of the run."
    ),
)
