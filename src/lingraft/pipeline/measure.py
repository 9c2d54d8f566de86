"""The step that measures a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lingraft.evaluation.measure import EvaluationSet, Measurement, measure, read_measurement, write_measurement
from lingraft.evaluation.samples import draw_prompts
from lingraft.pipeline.split import Split
from lingraft.pipeline.step import Artefact, step
from lingraft.pipeline.values import Model, Questions


class Measured(Artefact):
    """What an evaluation set gave under one model."""

    @property
    def measurement(self) -> Measurement:
        return read_measurement(self.folder)


@step(Measured)
def measure_model(folder: Path, model: Model, suites: EvaluationSet, max_length: int, device: str) -> None:
    """`measurement.json`; `device` is where it is measured, and with that in which type."""
    write_measurement(folder, measure(model.folder, suites, max_length))


def evaluation_set(split: Split, languages: Sequence[str], questions: Questions, samples: int) -> EvaluationSet:
    """Each language's own text, or what was held out of its corpus; the questions; prompts from the texts."""
    texts = {code: split.measured(code) for code in languages}
    prompts = {code: draw_prompts(documents, samples) for code, documents in texts.items()}
    return EvaluationSet(texts, questions.tasks, prompts)
