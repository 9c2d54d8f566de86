"""The text of a run: the corpora of all stages read, split, decontaminated and packed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lingraft.checkpoints.chat_template import check_template, tokenizer_for_chat
from lingraft.checkpoints.read import num_rows
from lingraft.evaluation.multiple_choice import read_tasks
from lingraft.pipeline.blocks import Budget, TrainingData, pack, schedule_of
from lingraft.pipeline.decontaminate import Trainable, decontaminate
from lingraft.pipeline.documents import Documents, read_measured_text, source_of, tokenize_corpus
from lingraft.pipeline.instructions import Conversations, read_instructions
from lingraft.pipeline.split import Split, split_documents
from lingraft.pipeline.train import check_takes_a_step
from lingraft.pipeline.values import ChatTokenizer, Files, Model, Questions
from lingraft.recipe import Recipe, Stage

Corpora = Mapping[str, Sequence[Documents]]
"""Stage -> the documents of each entry of its corpus."""
TrainableCorpora = Mapping[str, Sequence[Trainable]]


def stage_folder(recipe: Recipe, work: Path, stage: str) -> Path:
    """Where a stage of a recipe leaves its artefacts; of a recipe in the short form, `work` itself."""
    return work if recipe.is_short else work / f"stage-{stage}"


def read_questions(recipe: Recipe) -> Questions:
    """The questions of all tasks."""
    return Questions(read_tasks(recipe.evaluation.tasks))


def read_corpora(recipe: Recipe, model: Model, work: Path, name: str = "corpus") -> Corpora:
    """The documents of every corpus of every stage, in the tokens of a model."""
    return {
        stage: tokenize_corpus(
            of.corpus,
            of.self_generated_share,
            recipe.validation,
            model.tokenizer,
            stage_folder(recipe, work, stage) / name,
        )
        for stage, of in recipe.stages.items()
    }


def split(recipe: Recipe, corpora: Corpora, questions: Questions, work: Path) -> Split:
    """What is measured, what decides, and what may train."""
    evaluation = recipe.evaluation
    files = {code: Files(tuple(patterns)) for code, patterns in evaluation.text.items()}
    measured = read_measured_text(work / "measured-text", files, evaluation.text_field, evaluation.split)
    return split_documents(
        work / "split",
        {code: [documents for documents, _ in of] for code, of in _alone(recipe, corpora).items()},
        measured,
        list(evaluation.text),
        questions,
        recipe.languages,
        recipe.validation,
        recipe.selection_languages,
        recipe.seed,
    )


def decontaminated(recipe: Recipe, corpora: Corpora, parted: Split, model: Model) -> TrainableCorpora:
    """How much of each document of every corpus may train."""
    found: dict[str, list[Trainable]] = {}
    for name, stage in recipe.stages.items():
        found[name] = []
        for i, (entry, documents) in enumerate(zip(stage.corpus, corpora[name], strict=True)):
            path = documents.folder.with_name(f"{documents.folder.name}-overlap")
            source = source_of(entry, documents.folder)
            where = f"{recipe.place(name)}corpus.{i}"
            found[name].append(
                decontaminate(path, documents, source, entry.language, parted, model.tokenizer, place=where)
            )
    return found


def text_to_learn_tokens_on(
    recipe: Recipe, corpora: Corpora, trainable: TrainableCorpora
) -> tuple[dict[str, list[Documents]], dict[str, list[Trainable]]]:
    """The documents of each learned language alone, and how much of each may train."""
    found = _alone(recipe, corpora, trainable)
    return (
        {code: [documents for documents, _ in of] for code, of in found.items()},
        {code: [part for _, part in of if part is not None] for code, of in found.items()},
    )


def _alone(
    recipe: Recipe, corpora: Corpora, trainable: TrainableCorpora | None = None
) -> dict[str, list[tuple[Documents, Trainable | None]]]:
    """By learned language the tables of text in it alone, of all stages; what two stages train on is there once."""
    found: dict[str, dict[str, tuple[Documents, Trainable | None]]] = {code: {} for code in recipe.languages.learn}
    for name, stage in recipe.stages.items():
        for i, (entry, documents) in enumerate(zip(stage.corpus, corpora[name], strict=True)):
            if entry.language in found:
                part = trainable[name][i] if trainable else None
                found[entry.language][documents.fingerprint] = documents, part
    return {code: list(of.values()) for code, of in found.items()}


def training_data(
    recipe: Recipe,
    stage: Stage,
    model: Model,
    documents: Sequence[Documents],
    parted: Split,
    work: Path,
    trainable: Sequence[Trainable],
) -> TrainingData:
    """What a stage trains on, in the tokens of a model: blocks of text, or instructions."""
    schedule = schedule_of(stage.training, recipe.validation)
    if stage.instructions:
        check_template(tokenizer_for_chat(model.folder, stage.chat_template), model.folder, num_rows(model.folder))
        data = read_instructions(
            work / "blocks",
            [Conversations(of.language, Files(tuple(of.files))) for of in stage.instructions],
            ChatTokenizer(model.folder, stage.chat_template),
            parted,
            recipe.languages,
            recipe.validation,
            schedule,
            recipe.length,
            recipe.seed,
        )
    else:
        data = pack(
            work / "blocks",
            documents,
            trainable,
            [Budget.of(entry) for entry in stage.corpus],
            parted,
            model.tokenizer,
            recipe.languages,
            recipe.validation,
            schedule,
            stage.self_generated_share,
            recipe.length,
            recipe.seed,
        )
    check_takes_a_step(stage, data)
    return data
