"""Tasks of lm-evaluation-harness as suites: the harness asks and scores, and both models get the same questions.

The one file that knows the harness (extra `eval`). A task's figure is the mean over its questions (`acc`, `acc_norm`,
`exact_match`), or a figure of the whole (`chrf`, `bleu`, of sacrebleu, from 0 to 1); each question's part is kept, so
that a change has a paired interval. Of a group, as the subjects of an exam, all questions count alike.
"""

from __future__ import annotations

import copy
import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lingraft.cache import fingerprint
from lingraft.errors import CorpusError, UserError, nearest
from lingraft.evaluation.published import LackingDataError, datasets_from
from lingraft.evaluation.suite import Progress
from lingraft.evaluation.task_scores import OF_THE_WHOLE, Scores, TaskSuite
from lingraft.evaluation.task_suites import SuiteTask, check_suites, list_tasks

if TYPE_CHECKING:
    from lm_eval.api.task import Task
    from transformers import PreTrainedModel

    from lingraft.corpus.tokenize import DocumentTokenizer

logger = logging.getLogger(__name__)

BATCH_SIZE = 16
"""Questions at once on a CPU; on a GPU the harness finds how many fit."""
SEED = 1234
"""Of the examples that are drawn, as the harness has it."""
LONGEST_ANSWER = 256
"""Tokens of an answer where a task does not say, as the harness has it."""


@dataclass(frozen=True)
class HarnessSuite(TaskSuite):
    """One task in the languages that have it."""

    title: str
    tasks: Mapping[str, Sequence[Task]]
    """By language: a task of the harness, or the tasks of a group."""
    metrics: Sequence[str]
    filter: str | None
    chance: float | None
    """What guessing is worth, where it does not follow from options."""
    chat: bool
    """Whether it is asked in the model's chat template, where there is one."""
    limit: int | None

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"suites.{self.title}"

    @property
    def uses_chat(self) -> bool:  # type: ignore[override]
        """As generated answers end where the model's generation config says."""
        return self.chat or any(task.OUTPUT_TYPE == "generate_until" for tasks in self.tasks.values() for task in tasks)

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        """Of what is asked, word for word, with the examples, and of how it is scored.

        Raises:
            CorpusError: a question cannot be asked: a field is missing, or there are too few examples.
        """
        from importlib.metadata import version

        how = [version("lm_eval"), *self.metrics, self.filter, self.chance, *(["chat"] if self.chat else [])]
        return {
            code: fingerprint([how, *(_asked(self.title, code, task, self.limit) for task in tasks)])
            for code, tasks in self.tasks.items()
        }

    @property
    def texts(self) -> dict[str, list[str]]:
        """All text in the questions by language, and with it the answers: it is measured, and so does not train."""
        return {
            code: [text for task in tasks for doc in list(task.eval_docs)[: self.limit] for text in _strings(doc)]
            for code, tasks in self.tasks.items()
        }

    def measure(self, model: PreTrainedModel, tokenizer: DocumentTokenizer, max_length: int) -> dict[str, Scores]:
        from lm_eval import evaluate
        from lm_eval.models.huggingface import HFLM

        size = BATCH_SIZE if model.device.type == "cpu" else "auto"
        own = copy.deepcopy(tokenizer.tokenizer)  # the harness gives it a token for padding
        asked = HFLM(pretrained=model, tokenizer=own, backend="causal", batch_size=size)
        self._check_context(asked.max_length)
        chat = self.chat and bool(own.chat_template)
        measured = {}
        for code, tasks in self.tasks.items():
            for task in tasks:
                task.set_fewshot_seed(SEED)
            named: Any = {"tasks": {task.task_name: task for task in tasks}}
            with _progress(f"{self.title} {code}"):
                results = evaluate(
                    asked,
                    named,
                    limit=self.limit,
                    bootstrap_iters=0,
                    log_samples=True,
                    apply_chat_template=chat,
                    fewshot_as_multiturn=chat,
                )
            assert results is not None  # only other processes get None
            samples = [sample for task in tasks for sample in results["samples"][task.task_name]]
            name = self.filter or samples[0]["filter"]
            scores = self._scores(tasks, [sample for sample in samples if sample["filter"] == name])
            logger.info("%s %s: %s", self.title, code, scores.shown)
            measured[code] = scores
        return measured

    def _check_context(self, context: int) -> None:
        """Check that answers fit a model.

        Raises:
            UserError: so many tokens are generated that no place is left for the question.
        """
        for task in next(iter(self.tasks.values())):
            settings = task.config.generation_kwargs or {}
            longest = settings.get("max_gen_toks", LONGEST_ANSWER) if task.OUTPUT_TYPE == "generate_until" else 0
            if longest >= context:
                raise UserError(
                    f"{self.title}: answers of up to {longest} tokens are generated, and the context of the model is "
                    f"{context}; leave the task out, in a suite file of your own"
                )

    def _scores(self, tasks: Sequence[Task], samples: Sequence[Mapping[str, Any]]) -> Scores:
        means = [metric for metric in self.metrics if metric not in OF_THE_WHOLE]
        values = {metric: np.array([float(sample[metric]) for sample in samples]) for metric in means}
        kind = tasks[0].OUTPUT_TYPE
        generated = samples if kind == "generate_until" else []
        texts = [(str(sample["target"]), str(sample["filtered_resps"][0])) for sample in generated]
        chance = self.chance
        if chance is None:
            options = [len(sample["arguments"]) for sample in samples] if kind == "multiple_choice" else []
            chance = float(np.mean([1 / count for count in options])) if options else 0.0
        return Scores(values, chance, texts)


def load_suites(
    suites: Sequence[str], codes: Sequence[str], datasets: str | None = None, limit: int | None = None
) -> tuple[list[HarnessSuite], dict[str, dict[str, str]]]:
    """The tasks of suites in these languages, with their data, and what is lacking: task -> language -> why.

    `datasets` is a folder with the data sets, without which they come from the hub; `limit` the questions of each task.

    Raises:
        UserError: the extra is not installed, or there is no such suite, task, filter or figure.
        CorpusError: a data set is not of its form, or nothing can be measured.
    """
    wanted = list_tasks(suites, codes)
    if not wanted:
        return [], {}
    check_suites(suites, codes, datasets)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # advice to those who write tasks
    directory = Path(datasets) if datasets is not None else None
    _register_filters()
    found, lacking = [], dict[str, dict[str, str]]()
    for title, task in wanted.items():
        with datasets_from(directory):
            tasks, lacks = _load(title, task, codes, directory)
        if lacks:
            lacking[title] = lacks
        if tasks:
            suite = _suite(title, task, tasks, limit)
            _ = suite.fingerprint  # asks every question once, before anything else is done
            found.append(suite)
    if not found:
        raise CorpusError(f"no task of the suites {', '.join(suites)} can be measured: {_in_words(lacking)}")
    for title, by_code in lacking.items():
        logger.warning("%s", _in_words({title: by_code}))
    return found, lacking


def _in_words(lacking: Mapping[str, Mapping[str, str]]) -> str:
    """Languages of one reason together: `xcopa is not measured in eng_Latn (…)`."""
    parts = []
    for title, by_code in lacking.items():
        for why in dict.fromkeys(by_code.values()):
            codes = ", ".join(code for code, reason in by_code.items() if reason == why)
            parts.append(f"{title} is not measured in {codes} ({why})")
    return "; ".join(parts)


def _load(
    title: str, task: SuiteTask, codes: Sequence[str], directory: Path | None
) -> tuple[dict[str, list[Task]], dict[str, str]]:
    """The tasks by language, and the languages that lack it, with the reason."""
    from lm_eval import tasks as builtin
    from lm_eval.tasks import TaskManager

    root = Path(builtin.__file__).parent
    if missing := [folder for folder in task.folder if not (root / folder).is_dir()]:
        known = [path.name for path in root.iterdir() if path.is_dir()]
        raise UserError(f"{title}: lm-evaluation-harness has no folder '{missing[0]}'{nearest(missing[0], known)}")
    if task.define is not None or task.folder:
        manager = TaskManager(include_defaults=False, include_path=[root / folder for folder in task.folder])
    else:
        manager = _every_task()
    specs = {code: task.spec(title, code) for code in codes}
    known = manager.all_tasks
    names = [spec for spec in specs.values() if isinstance(spec, str)]
    if names and not task.folder and not any(name in known for name in names):
        raise UserError(f"lm-evaluation-harness has no task '{names[0]}'{nearest(names[0], known)}")
    loaded, lacks = dict[str, list[Any]](), dict[str, str]()
    for code, spec in specs.items():
        if spec is None or (isinstance(spec, str) and spec not in known):
            lacks[code] = "it has no such language"
            continue
        try:
            loaded[code] = list(manager.load([spec])["tasks"].values())
        except LackingDataError as error:
            lacks[code] = str(error)
        except UserError:
            raise
        except Exception as error:  # whatever the harness and `datasets` raise over data that they cannot read
            advice = (
                "" if directory else "; where the hub cannot be reached, give a folder with its data set as 'datasets'"
            )
            raise CorpusError(f"{title}, {code}: it cannot be read: {_first_line(error)}{advice}") from None
        for one in loaded.get(code, []):
            _with_examples(one, task.shots)
    return loaded, lacks


@cache
def _every_task() -> Any:
    """The harness's own tasks, looked through once."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _with_examples(task: Any, shots: int | None) -> None:
    """Let a task show so many examples: of its own split, or of other questions where there is no such split.

    The harness leaves the question itself out of its examples only where their split is named as that of the test.
    """
    count = (task.config.num_fewshot or 0) if shots is None else shots
    task.set_config("num_fewshot", count)
    asked = task.config.test_split or task.config.validation_split
    others = {task.config.training_split, task.config.validation_split} - {None, asked}
    split, given = task.fewshot_cfg.split, task.fewshot_cfg.samples is not None
    are_questions = split == asked or (split is None and not given and not others)
    if count and (are_questions or not task.sampler.df):
        if split != asked:
            logger.info("%s: there are no worked examples; other questions are the examples", task.task_name)
        task.config.test_split = task.fewshot_cfg.split = asked
        task.sampler.replace_df(list(task.eval_docs))


def _suite(title: str, task: SuiteTask, tasks: Mapping[str, list[Any]], limit: int | None) -> HarnessSuite:
    first = next(iter(tasks.values()))[0]
    known = [
        name
        for name, of in first.aggregation().items()
        if name in OF_THE_WHOLE or getattr(of, "__name__", "") == "mean"
    ]
    metrics = task.metric or known[:1]
    if not metrics:
        every = ", ".join(first.aggregation())
        raise UserError(f"{title}: its figures ({every}) are no means over questions, so they cannot be compared here")
    if unknown := [metric for metric in metrics if metric not in known]:
        raise UserError(f"{title}: the task has no figure '{unknown[0]}'; allowed are {', '.join(known)}")
    filters = [ensemble.name for ensemble in first._filters]
    if task.filter is not None and task.filter not in filters:
        raise UserError(f"{title}: the task has no filter '{task.filter}'; allowed are {', '.join(filters)}")
    if set(metrics) & {*OF_THE_WHOLE} and isinstance(first.doc_to_target(first.eval_docs[0]), list):
        raise UserError(f"{title}: chrF and BLEU compare with one text, and its questions have several; leave it out")
    return HarnessSuite(title, tasks, metrics, task.filter, task.chance, task.chat, limit)


def _asked(title: str, code: str, task: Any, limit: int | None) -> list[Any]:
    """What a task asks, the words of each request with what is right, and how answers are read and scored."""
    task.set_fewshot_seed(SEED)
    try:
        with _progress(task.task_name):
            task.build_all_requests(limit=limit)
        asked = [[one.request_type, repr(one.args), str(task.doc_to_target(one.doc))] for one in task.instances]
    except Exception as error:  # whatever templates and samplers raise over somebody else's data
        raise CorpusError(f"{title}, {code}: a question cannot be asked: {_first_line(error)}") from None
    return [asked, _words(task.config.filter_list), _words(task.config.metric_list)]


def _words(value: Any) -> str:
    """Settings as text; functions by their names."""
    return json.dumps(value, default=lambda one: getattr(one, "__qualname__", type(one).__name__), sort_keys=True)


def _strings(value: Any) -> Iterator[str]:
    """All text in the fields of a question."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(inner)


def first_line(generated: str) -> str:
    """A translation in what a model generates on and on: without white space before it, up to the first line break or
    the two characters backslash and n (arXiv 2606.00284, A.5).
    """
    return re.split(r"\n|\\n", generated.lstrip(), maxsplit=1)[0].strip()


@contextmanager
def _progress(title: str) -> Iterator[None]:
    """Log the harness's progress once a minute, in place of its bars."""
    from tqdm import tqdm

    said = Progress(title)

    class _Logged(tqdm):  # type: ignore[misc]
        def display(self, *_: Any, **__: Any) -> None:
            if self.total:
                said(self.n / self.total)

    modules: list[Any] = [of for name, of in sys.modules.items() if name.startswith("lm_eval.") and hasattr(of, "tqdm")]
    for module in modules:
        module.tqdm = _Logged
    try:
        yield
    finally:
        for module in modules:
            module.tqdm = tqdm


def _register_filters() -> None:
    from lm_eval.api.filter import Filter
    from lm_eval.api.registry import filter_registry, register_filter

    if "first_line" in filter_registry:
        return

    @register_filter("first_line")
    class _FirstLine(Filter):  # type: ignore[misc]
        def apply(self, resps: Any, docs: Any) -> Any:
            return [[first_line(text) for text in of] for of in resps]
