"""The text of a run: the corpora of all stages read, split, decontaminated, and prepared for training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

from lingraft.checkpoints.chat_template import check_template, tokenizer_for_chat
from lingraft.checkpoints.read import num_rows as num_rows_of
from lingraft.corpus.read import find_files
from lingraft.errors import TrainingError
from lingraft.evaluation.alignment import SentencePairs, read_pairs
from lingraft.evaluation.harness import load_suites
from lingraft.evaluation.questions import read_tasks
from lingraft.pipeline.blocks import Blocks, Budget, HeldOutBlocks, pack, pack_held_out
from lingraft.pipeline.decontaminate import Trainable, decontaminate
from lingraft.pipeline.documents import Documents, read_measured_text, text_of, tokenize_corpus
from lingraft.pipeline.generated_documents import GeneratedDocuments, generate_measured_text
from lingraft.pipeline.instructions import Conversations, InstructionData, read_instructions
from lingraft.pipeline.split import Split, split_documents
from lingraft.pipeline.values import ChatTokenizer, Files, Model, Questions, Tokenizer
from lingraft.recipe import Recipe, Stage
from lingraft.training.schedule import MOST_BLOCKS, SCHEDULE_ARGUMENTS, num_steps, sequences_at_once, validation_blocks

Corpora = Mapping[str, Sequence[Documents]]
"""Stage -> the documents of each entry of its corpus."""
TrainableCorpora = Mapping[str, Sequence[Trainable]]


@dataclass(frozen=True)
class Text:
    """All text of a run; corpora are tokenized by one model."""

    questions: Questions
    corpora: Corpora
    split: Split
    trainable: TrainableCorpora

    def alone(self, recipe: Recipe) -> tuple[dict[str, list[Documents]], dict[str, list[Trainable]]]:
        """Return, by learned language, its monolingual documents, and what of them may train."""
        found = _alone(recipe, self.corpora, self.trainable)
        return (
            {code: [documents for documents, _ in of] for code, of in found.items()},
            {code: [part for _, part in of if part is not None] for code, of in found.items()},
        )


@dataclass(frozen=True)
class TrainingData:
    """The training data of a stage, and its held-out blocks."""

    training: Blocks | InstructionData
    held_out: HeldOutBlocks
    documents: Sequence[Documents]
    overlap: Sequence[Mapping[str, Any]]
    """Of each entry: the documents that share text with what is measured, and did not train."""

    @property
    def mix(self) -> dict[str, Any]:
        """`tokens` in all, with those to be generated; `entries`, one for each of the corpus or the instructions."""
        return self.training.mix

    @property
    def tokens_of_text(self) -> int:
        return sum(entry["tokens"] for entry in self.mix["entries"])


def stage_folder(recipe: Recipe, work: Path, stage: str) -> Path:
    """Return the folder for artefacts of a stage; in the short form it is `work` itself."""
    return work if recipe.is_short else work / f"stage-{stage}"


def read_text(recipe: Recipe, base: Model, work: Path) -> Text:
    """Read the corpora and the measured text, hold documents out, and find what may train.

    Raises:
        CorpusError: no text, too little of it, or files that cannot be read.
    """
    evaluation, codes = recipe.evaluation, list(recipe.languages.roles)
    suites, lacking = load_suites(evaluation.suites, codes, evaluation.datasets, evaluation.limit)
    questions = Questions(read_tasks(evaluation.tasks), suites, lacking, read_sentence_pairs(recipe))
    corpora = _read_corpora(recipe, base, work, "corpus")
    generated = generate_measured_text(recipe, base, work)
    split = _split(recipe, corpora, questions, generated, work)
    return Text(questions, corpora, split, _decontaminated(recipe, corpora, split, base))


def read_sentence_pairs(recipe: Recipe) -> dict[str, SentencePairs]:
    """Read the sentences of a recipe whose alignment is measured, by the learned language."""
    found = {}
    for given in recipe.evaluation.pairs:
        (one, first), (other, second) = given.parallel.items()
        sentences = read_pairs(find_files(*given.files), (first, second))
        found[str(given.learned(recipe.languages))] = SentencePairs((one, other), sentences)
    return found


def retokenize(recipe: Recipe, text: Text, model: Model, work: Path) -> Text:
    """Return the same text with corpora tokenized by a model with new tokens."""
    corpora = _read_corpora(recipe, model, work, "corpus-in-new-tokens")
    return replace(text, corpora=corpora, trainable=_decontaminated(recipe, corpora, text.split, model))


def prepare_training(recipe: Recipe, name: str, text: Text, model: Model, work: Path) -> TrainingData:
    """Prepare a stage's training data in the tokens of a model: blocks of text, or instructions."""
    stage, folder = recipe.stages[name], stage_folder(recipe, work, name)
    validation, codes = recipe.validation, list(recipe.languages.roles)
    settings = {key: stage.training[key] for key in SCHEDULE_ARGUMENTS if key in stage.training}
    schedule = {} if validation.blocks else settings
    training: Blocks | InstructionData
    if stage.instructions:
        training = _read_instructions(recipe, stage, text.split, model, schedule, folder)
        overlap = [entry["overlap"] for entry in training.mix["entries"]]
        num_validation, num_rows = validation.blocks or MOST_BLOCKS, len(training.examples())
    else:
        training = pack(
            folder / "blocks",
            text.corpora[name],
            text.trainable[name],
            [Budget.of(entry) for entry in stage.corpus],
            recipe.languages.trained,
            stage.self_generated_share,
            recipe.length,
            recipe.seed,
        )
        overlap = [entry.overlap for entry in text.trainable[name]]
        blocks, share = training.mix["blocks"], stage.self_generated_share
        num_rows = ceil(blocks / (1 - share))
        num_validation = validation.blocks or validation_blocks(schedule, num_steps(schedule, num_rows), len(codes))
    _check_takes_a_step(stage, num_rows)
    held_out = pack_held_out(
        folder / "held-out-blocks",
        text.split,
        Tokenizer(model.folder, recipe.marks),
        codes,
        num_validation,
        validation.blocks or MOST_BLOCKS,
        recipe.length,
    )
    return TrainingData(training, held_out, text.corpora[name], overlap)


def _check_takes_a_step(stage: Stage, num_rows: int) -> None:
    """Refuse text that is less than a batch, where what is less is dropped, before the base is measured.

    Raises:
        TrainingError: names the settings.
    """
    batch = sequences_at_once(stage.training)
    if stage.training.get("dataloader_drop_last") and num_rows < batch:
        raise TrainingError(
            f"training.dataloader_drop_last drops all that there is: {num_rows} rows are less than a batch of {batch}; "
            "lower per_device_train_batch_size, or take dataloader_drop_last out"
        )


def _read_instructions(
    recipe: Recipe, stage: Stage, split: Split, model: Model, schedule: Mapping[str, Any], folder: Path
) -> InstructionData:
    check_template(tokenizer_for_chat(model.folder, stage.chat_template), model.folder, num_rows_of(model.folder))
    return read_instructions(
        folder / "instructions",
        [Conversations(given.language, Files(tuple(given.files))) for given in stage.instructions or []],
        ChatTokenizer(model.folder, stage.chat_template),
        split,
        recipe.validation,
        schedule,
        recipe.length,
        recipe.seed,
    )


def _read_corpora(recipe: Recipe, model: Model, work: Path, name: str) -> Corpora:
    """Tokenize every corpus of every stage."""
    return {
        stage: tokenize_corpus(
            settings.corpus,
            settings.self_generated_share,
            recipe.validation,
            Tokenizer(model.folder, recipe.marks),
            stage_folder(recipe, work, stage) / name,
        )
        for stage, settings in recipe.stages.items()
    }


def _split(
    recipe: Recipe, corpora: Corpora, questions: Questions, generated: GeneratedDocuments | None, work: Path
) -> Split:
    evaluation = recipe.evaluation
    files = {code: Files(tuple(patterns)) for code, patterns in evaluation.text.items()}
    of_base = {evaluation.self_generated: generated} if evaluation.self_generated and generated else {}
    measured = read_measured_text(work / "measured-text", files, of_base, evaluation.text_field, evaluation.split)
    return split_documents(
        work / "split",
        {code: [documents for documents, _ in of] for code, of in _alone(recipe, corpora).items()},
        measured,
        evaluation.given,
        questions,
        recipe.languages,
        recipe.validation,
        recipe.selection_languages,
        recipe.seed,
    )


def _decontaminated(recipe: Recipe, corpora: Corpora, split: Split, model: Model) -> TrainableCorpora:
    """Decontaminate every corpus."""
    tokenizer = Tokenizer(model.folder, recipe.marks)
    found: dict[str, list[Trainable]] = {}
    for name, stage in recipe.stages.items():
        found[name] = []
        for i, (entry, documents) in enumerate(zip(stage.corpus, corpora[name], strict=True)):
            path = documents.folder.with_name(f"{documents.folder.name}-overlap")
            corpus_text = text_of(entry, documents.folder)
            where = f"{recipe.place(name)}corpus.{i}"
            found[name].append(
                decontaminate(path, documents, corpus_text, entry.language, split, tokenizer, place=where)
            )
    return found


def _alone(
    recipe: Recipe, corpora: Corpora, trainable: TrainableCorpora | None = None
) -> dict[str, list[tuple[Documents, Trainable | None]]]:
    """Return, by learned language, its monolingual documents in all stages, each table once."""
    found: dict[str, dict[str, tuple[Documents, Trainable | None]]] = {code: {} for code in recipe.languages.learn}
    for name, stage in recipe.stages.items():
        for i, (entry, documents) in enumerate(zip(stage.corpus, corpora[name], strict=True)):
            if entry.language in found:
                part = trainable[name][i] if trainable else None
                found[entry.language][documents.fingerprint] = documents, part
    return {code: list(documents.values()) for code, documents in found.items()}
