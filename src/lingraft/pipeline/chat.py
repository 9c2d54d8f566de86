"""The step in which an instruct base generates conversations, to measure what becomes of its chat, and to decide."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from lingraft.cache import read_json, write_json
from lingraft.checkpoints.read import read_tokenizer
from lingraft.evaluation.chat import Exchange, generate_exchanges
from lingraft.evaluation.measure import measuring_device, model_to_measure
from lingraft.nn.generate import drawn_by
from lingraft.pipeline.step import Artefact, step
from lingraft.pipeline.values import ChatFiles, Model
from lingraft.recipe import Recipe

logger = logging.getLogger(__name__)

_SEED = 0xC4A7


class GeneratedChat(Artefact):
    """Conversations of the base: `chat.json`."""

    @property
    def exchanges(self) -> list[Exchange]:
        return [Exchange(*exchange) for exchange in read_json(self.folder / "chat.json")["exchanges"]]


def generate_chat(recipe: Recipe, base: Model, work: Path) -> GeneratedChat | None:
    """Let the base generate the conversations that are measured, where `chat` is retained.

    Raises:
        ModelError: it has no chat template, or generates no conversations.
    """
    if not recipe.languages.chat:
        return None
    count, seed, device = recipe.evaluation.num_conversations, [recipe.seed, _SEED], measuring_device()
    return generate_conversations(work / "chat", base, ChatFiles(base.folder), count, seed, device)


def generate_deciding_chat(recipe: Recipe, base: Model, measured: GeneratedChat, work: Path) -> GeneratedChat:
    """Let the base generate as many conversations again, with other questions, on which scales are chosen."""
    count, seed, device = recipe.evaluation.num_conversations, [recipe.seed, _SEED, 1], measuring_device()
    files, folder = ChatFiles(base.folder), work / "chat-that-decides"
    return generate_other_conversations(folder, base, files, measured, count, seed, device)


@step(GeneratedChat)
def generate_conversations(
    folder: Path, base: Model, files: ChatFiles, count: int, seed: list[int], device: str
) -> None:
    """`chat.json`: so many questions and answers, drawn at temperature 1."""
    logger.info("the base generates %d conversations, to be measured", count)
    _write(folder, base, count, seed)


@step(GeneratedChat)
def generate_other_conversations(
    folder: Path, base: Model, files: ChatFiles, measured: GeneratedChat, count: int, seed: list[int], device: str
) -> None:
    """As `generate_conversations`, without the questions that are measured."""
    logger.info("the base generates %d other conversations, which decide on scales", count)
    _write(folder, base, count, seed, [exchange.question for exchange in measured.exchanges])


def _write(folder: Path, base: Model, count: int, seed: list[int], without: Sequence[str] = ()) -> None:
    with drawn_by(seed):
        exchanges = generate_exchanges(model_to_measure(base.folder), read_tokenizer(base.folder), count, without)
    write_json(folder / "chat.json", {"exchanges": [list(exchange) for exchange in exchanges]})
