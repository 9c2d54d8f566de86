"""The step in which the base generates text to be measured on, where there is none of a retained language."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from lingraft.checkpoints.document_marks import DocumentMarks
from lingraft.corpus.read import read_texts, write_texts
from lingraft.corpus.sample import sample
from lingraft.evaluation.measure import document_tokenizer, measuring_device, model_to_measure
from lingraft.nn.generate import drawn_by
from lingraft.pipeline.step import Artefact, step
from lingraft.pipeline.values import Model
from lingraft.recipe import Recipe

logger = logging.getLogger(__name__)

BLOCKS, LENGTH = 64, 256
"""Blocks that are sampled, and their tokens."""
SHORTEST = 40
"""Characters of a document that is kept."""
_SEED = 0x7E47


class GeneratedDocuments(Artefact):
    """Documents of the base: `text.jsonl`."""

    @property
    def texts(self) -> list[str]:
        return read_texts(self.folder / "text.jsonl")


def generate_measured_text(recipe: Recipe, base: Model, work: Path) -> GeneratedDocuments | None:
    """Let the base generate the text of `evaluation.self_generated`."""
    if recipe.evaluation.self_generated is None:
        return None
    length = min(LENGTH, recipe.length)
    seed, device = [recipe.seed, _SEED], measuring_device()
    logger.info("%s is measured on text that the base generates", recipe.evaluation.self_generated)
    return generate_documents(work / "generated-documents", base, recipe.marks, BLOCKS, length, seed, device)


@step(GeneratedDocuments)
def generate_documents(
    folder: Path, base: Model, marks: DocumentMarks, blocks: int, length: int, seed: Sequence[int], device: str
) -> None:
    """`text.jsonl`: blocks at temperature 1, cut into documents where the base ends one."""
    tokenizer = document_tokenizer(base.folder, marks)
    with drawn_by(seed):
        rows = sample(model_to_measure(base.folder), tokenizer, blocks, length).tolist()
    ends = {*tokenizer.bos_ids, *tokenizer.eos_ids}
    documents = [ids for row in rows for ids in _cut(row, ends)]
    texts = [str(tokenizer.tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids in documents]
    write_texts(folder / "text.jsonl", [text for text in texts if len(text) >= SHORTEST] or texts)


def _cut(row: Sequence[int], ends: set[int]) -> list[list[int]]:
    """The tokens between those of `ends`."""
    documents: list[list[int]] = [[]]
    for token in row:
        if token in ends:
            documents.append([])
        else:
            documents[-1].append(token)
    return [document for document in documents if document]
