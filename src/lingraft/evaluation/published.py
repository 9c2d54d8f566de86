"""Data sets of evaluation suites from a folder: in the hub's layout, or in the files that their authors published.

    folder/owner/name  or  folder/name      a copy of the hub's repository, which `datasets` reads, or published files

Published files are known of XCOPA, MGSM, Belebele, XStoryCloze, FLORES-200 and ParsiNLU's textual entailment; they get
the columns that the data set has on the hub. Nothing is looked for on the hub.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import datasets
from datasets import Dataset, DatasetDict

from lingraft.errors import CorpusError


class LackingDataError(CorpusError):
    """A folder has no such data set, or none in this language; what there is can still be measured."""


Rows = list[dict[str, Any]]
Reader = Callable[[Path, str], Mapping[str, Rows] | None]
"""Folder and configuration (a language) -> rows by split; None where the folder has no published files."""


def _xcopa(folder: Path, name: str) -> Mapping[str, Rows] | None:
    files = {
        split: _first(folder, f"{short}.{name}.jsonl") for split, short in (("validation", "val"), ("test", "test"))
    }
    return {split: _json_lines(file) for split, file in files.items() if file} if files["test"] else None


def _mgsm(folder: Path, name: str) -> Mapping[str, Rows] | None:
    """Questions and their numbers; the examples with worked answers are code where MGSM is published, and not read."""
    file = _first(folder, f"mgsm_{name}.tsv")
    if file is None:
        return None
    rows = []
    for place, fields in _separated(file, "\t", 2):
        number = fields[1].replace(",", "")
        if not re.fullmatch(r"-?\d+(\.\d+)?", number):
            raise CorpusError(
                f"{place}: '{fields[1]}' is not a number; a line of MGSM is a question, a tab and a number"
            )
        rows.append({"question": fields[0], "answer": None, "answer_number": number, "equation_solution": None})
    return {"train": [], "test": rows}


def _belebele(folder: Path, name: str) -> Mapping[str, Rows] | None:
    file = _first(folder, f"{name}.jsonl", f"belebele_{name}.jsonl")
    if file is None:
        return None
    rows = _json_lines(file)
    return {"test": [{**row, "correct_answer_num": str(row.get("correct_answer_num"))} for row in rows]}


def _xstorycloze(folder: Path, name: str) -> Mapping[str, Rows] | None:
    files = {split: _first(folder, f"spring2016.val.{name}.tsv.split_20_80_{split}.tsv") for split in ("train", "eval")}
    if not files["eval"]:
        return None
    columns = ["story_id", *(f"input_sentence_{i}" for i in range(1, 5)), "sentence_quiz1", "sentence_quiz2"]

    def rows(file: Path) -> Rows:
        lines = list(_separated(file, "\t", 8))[1:]  # a header
        return [
            {**dict(zip(columns, fields, strict=False)), "answer_right_ending": int(fields[7])} for _, fields in lines
        ]

    return {split: rows(file) for split, file in files.items() if file}


def _flores(folder: Path, name: str) -> Mapping[str, Rows] | None:
    """`dev/LANGUAGE.dev` and `devtest/LANGUAGE.devtest`, a sentence a line; `name` is a language, a pair, or `all`."""
    found = sorted({file.name.partition(".")[0] for file in folder.rglob("*.devtest")})
    codes = found if name == "all" else name.split("-")
    files = {split: {code: _first(folder, f"{code}.{split}") for code in codes} for split in ("dev", "devtest")}
    if not found:
        return None
    splits = {}
    for split, by_code in files.items():
        if lacking := [code for code, file in by_code.items() if file is None]:
            raise LackingDataError(f"{folder} has no {lacking[0]}.{split}")
        lines = {code: _lines(file) for code, file in by_code.items() if file}
        if len(set(map(len, lines.values()))) > 1:
            counts = ", ".join(f"{code} {len(texts)}" for code, texts in lines.items())
            raise CorpusError(f"{folder}: FLORES' {split} has as many sentences in each language; here are {counts}")
        keys = ["sentence"] if len(codes) == 1 else [f"sentence_{code}" for code in lines]
        splits[split] = [dict(zip(keys, texts, strict=True)) for texts in zip(*lines.values(), strict=True)]
    return splits


def _parsinlu_entailment(folder: Path, name: str) -> Mapping[str, Rows] | None:
    names = {"train": "train.csv", "validation": "dev.csv", "test": "test.csv"}
    files = {split: _first(folder, file) for split, file in names.items()}
    if not files["test"]:
        return None
    columns = {"sent1": "sent1", "sent2": "sent2", "label": "label", "source": "category"}

    def rows(file: Path) -> Rows:
        table = csv.DictReader(io.StringIO(file.read_text("utf-8-sig"), newline=""))
        if lacking := [column for column in columns if column not in (table.fieldnames or ())]:
            raise CorpusError(f"{file}: there is no column '{lacking[0]}'; ParsiNLU has {', '.join(columns)}")
        return [{name: row[column] for column, name in columns.items()} for row in table]

    return {split: rows(file) for split, file in files.items() if file}


PUBLISHED: Mapping[str, Reader] = {
    "cambridgeltl/xcopa": _xcopa,
    "juletxara/mgsm": _mgsm,
    "facebook/belebele": _belebele,
    "juletxara/xstory_cloze": _xstorycloze,
    "facebook/flores": _flores,
    "persiannlp/parsinlu_entailment": _parsinlu_entailment,
}
"""Data set on the hub -> the reader of its published files."""


def read_dataset(directory: Path, dataset: str, name: str | None, **settings: Any) -> DatasetDict:
    """The splits of a data set of the hub (`owner/name`, configuration `name`) from `directory`.

    Raises:
        LackingDataError: it is not there, or not with this configuration.
        CorpusError: its files are of another form.
    """
    folder = find_dataset(directory, dataset)
    if folder is None:
        form = "as the hub has it" + (" or as it was published" if dataset in PUBLISHED else "")
        raise LackingDataError(f"{directory} has no folder {dataset}, {form}")
    reader = PUBLISHED.get(dataset)
    splits = reader(folder, name or "") if reader else None
    if splits is not None:
        return DatasetDict({split: Dataset.from_list(rows) for split, rows in splits.items()})
    try:  # `datasets` would take a changed file for the one that it has in its cache, so the cache is a new one
        with TemporaryDirectory() as cache:
            return datasets.load_dataset(str(folder), name, cache_dir=cache, keep_in_memory=True, **settings)
    except Exception as error:  # whatever `datasets` raises over somebody else's files
        first = str(error).strip().partition("\n")[0]
        if isinstance(error, ValueError) and "BuilderConfig" in first:
            raise LackingDataError(f"{folder} has no '{name}'") from None
        raise CorpusError(f"{folder} is not the data set {dataset}: {first}") from None


def find_dataset(directory: Path, dataset: str) -> Path | None:
    """The folder of a data set: `owner/name`, or a folder by its name, in which - and _ are the same."""
    exact = directory / dataset
    if exact.is_dir():
        return exact
    wanted = {_plain(word) for word in (dataset.rpartition("/")[2], dataset)}
    folders = sorted(path for path in directory.iterdir() if path.is_dir()) if directory.is_dir() else []
    return next((folder for folder in folders if _plain(folder.name) in wanted), None)


@contextmanager
def datasets_from(directory: Path | None) -> Iterator[None]:
    """Let `datasets.load_dataset` read from `directory` alone; with None, as it does.

    It is the one door through which each task of lm-evaluation-harness gets its data.
    """
    if directory is None:
        yield
        return
    original = datasets.load_dataset

    def load(path: str, name: str | None = None, **settings: Any) -> Any:
        datasets.load_dataset = original
        try:
            return read_dataset(directory, path, name, **settings)
        finally:
            datasets.load_dataset = load

    datasets.load_dataset = load
    try:
        yield
    finally:
        datasets.load_dataset = original


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _first(folder: Path, *names: str) -> Path | None:
    """The file of one of these names in a folder or below it."""
    found = sorted(path for name in names for path in folder.rglob(name) if path.is_file())
    return found[0] if found else None


def _json_lines(file: Path) -> Rows:
    rows = []
    for number, line in enumerate(_lines(file), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise CorpusError(f"{file}:{number} is not JSON: {error}") from None
            if not isinstance(row, dict):
                raise CorpusError(f"{file}:{number}: a line is a JSON object with the fields of a question")
            rows.append(row)
    if not rows:
        raise CorpusError(f"{file} has no questions")
    return rows


def _separated(file: Path, separator: str, fields: int) -> Iterator[tuple[str, Sequence[str]]]:
    """The fields of each line, with its place."""
    for number, line in enumerate(_lines(file), 1):
        parts = line.split(separator)
        if len(parts) != fields:
            raise CorpusError(f"{file}:{number}: {len(parts)} fields; a line has {fields}, with tabs between them")
        yield f"{file}:{number}", parts


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{file} is not UTF-8: {error}") from None
    return [line.rstrip("\r") for line in text.rstrip("\n").split("\n")]
