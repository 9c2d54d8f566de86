"""A suite against lm-evaluation-harness alone: the same items, and how long each takes, in one run.

    python benchmarks/suites.py MODEL DATASETS --suite layra --languages swh_Latn,ekk_Latn [--limit 100] [--rounds 3]

The harness is called as its users call it (`simple_evaluate`), on the same files, with the same batch, and without its
bootstrap (100,000 draws by default). Each round does both, in turn; the ratio of the sums of their times is printed,
and whether all items agree.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
from lm_eval.models.huggingface import HFLM

from lingraft.checkpoints.document_marks import document_marks
from lingraft.evaluation.harness import BATCH_SIZE, HarnessSuite, load_suites
from lingraft.evaluation.measure import document_tokenizer, model_to_measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("datasets")
    parser.add_argument("--suite", action="append", required=True)
    parser.add_argument("--languages", required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    suites, _ = load_suites(given.suite, given.languages.split(","), given.datasets, given.limit)
    model, tokenizer = model_to_measure(given.model), document_tokenizer(given.model, document_marks(given.model))
    model.eval()
    for suite in suites:
        ours = theirs = 0.0
        for _ in range(given.rounds):
            started = time.perf_counter()
            measured = suite.measure(model, tokenizer, 512)
            ours += time.perf_counter() - started
            started = time.perf_counter()
            samples = alone(suite, model, tokenizer.tokenizer, given.limit)
            theirs += time.perf_counter() - started
        agree = all(
            np.array_equal(scores.values[metric], [float(sample[metric]) for sample in samples[code]])
            for code, scores in measured.items()
            for metric in scores.values
        )
        counts = ", ".join(f"{len(of)} in {code}" for code, of in samples.items())
        said = "agree" if agree else "DIFFER"
        print(f"{suite.title}: {counts}; items {said}; {ours / theirs:.2f} of the harness's time")


def alone(suite: HarnessSuite, model: Any, tokenizer: Any, limit: int | None) -> dict[str, list[dict[str, Any]]]:
    """The harness's own samples, by language."""
    found = {}
    for code, tasks in suite.tasks.items():
        asked = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=BATCH_SIZE)
        results = lm_eval.simple_evaluate(asked, tasks=list(tasks), limit=limit, log_samples=True, bootstrap_iters=0)
        samples = [sample for task in tasks for sample in results["samples"][task.task_name]]
        name = suite.filter or samples[0]["filter"]
        found[code] = [sample for sample in samples if sample["filter"] == name]
    return found


if __name__ == "__main__":
    main()
