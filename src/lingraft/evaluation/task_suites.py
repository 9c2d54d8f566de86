"""Suites of tasks as short YAML files: which tasks of lm-evaluation-harness, with how many examples, and which figure.

    xcopa: {task: "xcopa_{alpha2}", folder: xcopa}
    mgsm:  {task: "mgsm_direct_{alpha2}", folder: mgsm/direct, shots: 3, metric: exact_match, filter: flexible-extract}

In a name, `{code}` is the language's code (`swh_Latn`), `{code_lower}` the same in small letters, `{alpha3}` its ISO
639-3 code, `{alpha2}` and `{macro3}` those of its macrolanguage (`sw`, `swa`), `{name}` its English name. Files of this
form lie in `suites/`; a user's own is given by its path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from lingraft.errors import UserError, nearest
from lingraft.languages import macrolanguage, parse_language

SUITES = Path(__file__).with_name("suites")


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | int) else value


Words = Annotated[list[str], BeforeValidator(_as_list)]


class SuiteTask(BaseModel):
    """One task of a suite: a task of lm-evaluation-harness by name, or one that is defined in its own form."""

    model_config = ConfigDict(extra="forbid", strict=True)

    task: str | None = None
    """Its name, with the language's place in braces."""
    folder: Words = []
    """Where the harness has it, below its `tasks`; without one, all of its 14,000 tasks are looked through (10 s)."""
    named: dict[str, str] = {}
    """ISO 639-3 code -> the name of the task, where it does not follow the rule."""
    define: dict[str, Any] | None = None
    """A task in the harness's own form, with the language's place in braces."""
    languages: Words = Field(default=[])
    """ISO 639-3 codes of the languages that there are; not said, those of the names, or of the data."""
    without: Words = Field(default=[], alias="except")
    """ISO 639-3 codes for which it makes no sense: a translation into English, of English."""
    only: dict[str, Annotated[list[str | int], BeforeValidator(_as_list)]] = {}
    """Field of a question -> its values: others have no right answer, as where annotators did not agree."""
    shots: Annotated[int, Field(ge=0)] | None = None
    """Worked examples before each question; not said, the task's own number."""
    chat: bool = False
    """Asked in the model's chat template, where it has one; the examples are turns before the question."""
    chance: Annotated[float, Field(ge=0, lt=1)] | None = None
    """What guessing is worth, of generated answers; options say it themselves."""
    metric: Words = []
    """Figures of the harness: acc, acc_norm (likelihood divided by length), exact_match, chrf, bleu; not said, the
    task's first."""
    filter: str | None = None
    """Which of the task's filters finds the answer in what was generated; not said, its only one."""

    @model_validator(mode="after")
    def _names_or_defines(self) -> SuiteTask:
        if (self.define is None) == (self.task is None and not self.named):
            raise ValueError("give either 'task' (or 'named'), a task of the harness, or 'define', one of your own")
        if self.only and self.define is None:
            raise ValueError("'only' needs 'define'; a task of the harness chooses its questions itself")
        return self

    def _chosen(self, questions: Any) -> Any:
        """The questions of a split that have one of the values of `only`."""
        if lacking := [field for field in self.only if field not in questions.column_names]:
            raise UserError(f"only: a question has no field '{lacking[0]}'; it has {', '.join(questions.column_names)}")
        chosen = questions.filter(
            lambda one: all(str(one[field]) in map(str, values) for field, values in self.only.items())
        )
        if len(questions) and not len(chosen):
            raise UserError(f"only: none of {len(questions)} questions has these values: {self.only}")
        return chosen

    def spec(self, title: str, code: str) -> str | dict[str, Any] | None:
        """What the harness is asked for in a language; None where the suite has no such task."""
        alpha3, macro3 = code.partition("_")[0], macrolanguage(code).alpha3
        if _names(self.without, alpha3, macro3) or (self.languages and not _names(self.languages, alpha3, macro3)):
            return None
        if exact := self.named.get(alpha3) or self.named.get(macro3):
            return exact
        names = _names_of(code)
        if self.define is not None:
            filled = _filled(self.define, names)
            if filled is None:
                return None
            return {
                "task": f"{title}_{code}".replace(" ", "_"),
                **({"process_docs": self._chosen} if self.only else {}),
                **filled,
            }
        return _fill(self.task, names) if self.task else None


def suite_names() -> list[str]:
    """The suites that come with lingraft."""
    return sorted(path.stem for path in SUITES.glob("*.yaml"))


def is_suite_file(name: str) -> bool:
    """Whether a suite is given by the path of a file, and not by its name."""
    return Path(name).suffix in (".yaml", ".yml")


def check_suites(suites: Sequence[str], codes: Sequence[str], datasets: str | None) -> None:
    """Check what can be told of suites without loading their tasks.

    Raises:
        UserError: there is no such suite or folder, or the harness is not installed.
    """
    if list_tasks(suites, codes) and find_spec("lm_eval") is None:
        raise UserError("suites are measured by lm-evaluation-harness; install it: pip install 'lingraft[eval]'")
    if datasets is not None and not Path(datasets).is_dir():
        raise UserError(f"datasets: {datasets} is no folder; give one with a folder for each data set")


def read_suite(name: str) -> dict[str, SuiteTask]:
    """The tasks of a suite by title: of ours by name, of a user's by the path of its file.

    Raises:
        UserError: there is no such suite, or its file is of another form.
    """
    file = SUITES / f"{name}.yaml" if name in suite_names() else Path(name)
    if not file.is_file():
        raise UserError(
            f"there is no suite '{name}'; allowed are {', '.join(suite_names())}, a file of your own (.yaml), "
            "and a task of lm-evaluation-harness that ends with a language of yours, as xcopa_sw does"
            f"{nearest(name, suite_names())}"
        )
    try:
        given = yaml.safe_load(file.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not YAML: {error}") from None
    if not isinstance(given, dict) or not given:
        raise UserError(f"{file}: a suite is a mapping from the title of a task to its keys, as in {_EXAMPLE}")
    return {str(title): _task(file, str(title), keys) for title, keys in given.items()}


_EXAMPLE = 'xcopa: {task: "xcopa_{alpha2}", folder: xcopa}'


def _task(file: Path, title: str, keys: Any) -> SuiteTask:
    try:
        return SuiteTask.model_validate(keys)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join([title, *map(str, problem["loc"])])
        allowed = ", ".join(field.alias or name for name, field in SuiteTask.model_fields.items())
        what = problem["msg"].removeprefix("Value error, ")
        raise UserError(f"{file}: {where}: {what}; keys of a task are {allowed}, as in {_EXAMPLE}") from None


def _names(listed: Sequence[str], alpha3: str, macro3: str) -> bool:
    return alpha3 in listed or macro3 in [macrolanguage(f"{code}_Latn").alpha3 for code in listed]


def _names_of(code: str) -> dict[str, str]:
    language, macro = parse_language(code), macrolanguage(code)
    return {
        "code": code,
        "code_lower": code.lower(),
        "alpha3": code.partition("_")[0],
        "alpha2": macro.alpha2,
        "macro3": macro.alpha3,
        "name": language.name.partition(" (")[0],
    }


def _fill(text: str, names: Mapping[str, str]) -> str | None:
    """Put names in their places; None where one is not known. A field of a template, `{{name}}`, is no such place."""
    for key, name in names.items():
        place = re.compile(rf"(?<!\{{)\{{{key}\}}")
        if not name and place.search(text):
            return None
        text = place.sub(lambda _, name=name: name, text)  # type: ignore[misc]
    return text


def _filled(value: Any, names: Mapping[str, str]) -> Any:
    """As `_fill`, of all text in a definition."""
    if isinstance(value, str):
        return _fill(value, names)
    if isinstance(value, dict | list):
        inner = [_filled(one, names) for one in (value.values() if isinstance(value, dict) else value)]
        if any(new is None and old is not None for new, old in zip(inner, _inside(value), strict=True)):
            return None
        return dict(zip(value, inner, strict=True)) if isinstance(value, dict) else inner
    return value


def _inside(value: dict[str, Any] | list[Any]) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value


def list_tasks(suites: Sequence[str], codes: Sequence[str]) -> dict[str, SuiteTask]:
    """The tasks of several suites by title, for languages.

    A word that is no suite is the name of one task of the harness that ends with its language, as `xcopa_sw` does.

    Raises:
        UserError: as `read_suite`.
    """
    found: dict[str, SuiteTask] = {}
    for suite in suites:
        single = _single(suite, codes)
        for name, task in ({suite: single} if single else read_suite(suite)).items():
            title = ", ".join(
                [name, *([f"{task.shots} shots"] if task.shots else []), *(["chat"] if task.chat else [])]
            )
            if title in found and found[title] != task:
                title = f"{title} ({Path(suite).stem})"
                if found.get(title, task) != task:
                    raise UserError(f"two suites have a task '{title}'; give one of them another title")
            found[title] = task
    return found


def _single(name: str, codes: Sequence[str]) -> SuiteTask | None:
    """One task of the harness by its name; None where it names no language of the run, or is a suite."""
    if name in suite_names() or is_suite_file(name):
        return None
    for code in codes:
        names = _names_of(code)
        ends = [f"_{names[key]}" for key in ("code", "code_lower", "alpha2", "alpha3", "macro3") if names[key]]
        if name.endswith(tuple(ends)):
            return SuiteTask(task=name, languages=[names["alpha3"]])
    return None
