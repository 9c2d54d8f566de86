"""Data sets in a folder: as their authors published them, and as the hub has them."""

from __future__ import annotations

import json

import pytest

from lingraft.errors import CorpusError
from lingraft.evaluation.published import LackingDataError, read_dataset

pytestmark = pytest.mark.integration

ITEM = {"premise": "Anga liri", "choice1": "a", "choice2": "b", "question": "cause", "label": 1, "idx": 0}
STORY = ["id", "One.", "Two.", "Three.", "Four.", "Right.", "Wrong.", "1"]


def write(path, *lines: str):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("place", ["cambridgeltl/xcopa", "xcopa", "XCOPA"])
def test_xcopa(tmp_path, place) -> None:
    write(tmp_path / place / "sw" / "test.sw.jsonl", json.dumps(ITEM))
    write(tmp_path / place / "sw" / "val.sw.jsonl", json.dumps(ITEM), json.dumps(ITEM))
    read = read_dataset(tmp_path, "cambridgeltl/xcopa", "sw")
    assert read["test"][0] == ITEM
    assert len(read["validation"]) == 2
    with pytest.raises(LackingDataError, match="has no 'et'"):
        read_dataset(tmp_path, "cambridgeltl/xcopa", "et")


def test_mgsm(tmp_path) -> None:
    write(tmp_path / "mgsm" / "mgsm_sw.tsv", "Tatu na nne?\t7", "Je?\t1,200", "Nusu?\t2.5")
    read = read_dataset(tmp_path, "juletxara/mgsm", "sw")
    assert [row["answer_number"] for row in read["test"]] == [
        "7",
        "1200",
        "2.5",
    ]  # text: no 7.0
    assert read["test"][0]["question"] == "Tatu na nne?"
    assert read["test"][0]["answer"] is None
    assert len(read["train"]) == 0  # worked examples are not in the files


@pytest.mark.parametrize(
    ("line", "message"),
    [("Tatu?\tsaba", "mgsm_sw.tsv:1: 'saba' is not a number"), ("Tatu?", ":1: 1 fields; a line has 2")],
)
def test_a_broken_line_has_its_place(tmp_path, line, message) -> None:
    write(tmp_path / "mgsm" / "mgsm_sw.tsv", line)
    with pytest.raises(CorpusError, match=message):
        read_dataset(tmp_path, "juletxara/mgsm", "sw")


def test_belebele(tmp_path) -> None:
    write(tmp_path / "Belebele" / "nya_Latn.jsonl", json.dumps({"question": "Q", "correct_answer_num": 3}))
    assert read_dataset(tmp_path, "facebook/belebele", "nya_Latn")["test"][0]["correct_answer_num"] == "3"


def test_xstorycloze(tmp_path) -> None:
    name = "spring2016.val.sw.tsv.split_20_80_{}.tsv"
    for split in ("train", "eval"):
        write(tmp_path / "xstory_cloze" / name.format(split), "\t".join(["h"] * 8), "\t".join(STORY))
    row = read_dataset(tmp_path, "juletxara/xstory_cloze", "sw")["eval"][0]
    assert (row["input_sentence_4"], row["sentence_quiz1"], row["answer_right_ending"]) == ("Four.", "Right.", 1)


def test_flores(tmp_path) -> None:
    for split in ("dev", "devtest"):
        write(tmp_path / "flores" / split / f"eng_Latn.{split}", "One.", "Two.")
        write(tmp_path / "flores" / split / f"nya_Latn.{split}", "Chimodzi.", "Ziwiri.")
    pair = read_dataset(tmp_path, "facebook/flores", "eng_Latn-nya_Latn")
    assert pair["devtest"][1] == {"sentence_eng_Latn": "Two.", "sentence_nya_Latn": "Ziwiri."}
    assert read_dataset(tmp_path, "facebook/flores", "all")["dev"][0].keys() == pair["dev"][0].keys()
    assert read_dataset(tmp_path, "facebook/flores", "nya_Latn")["dev"][0] == {"sentence": "Chimodzi."}
    with pytest.raises(LackingDataError, match=r"has no dan_Latn\.dev"):
        read_dataset(tmp_path, "facebook/flores", "eng_Latn-dan_Latn")
    write(tmp_path / "flores" / "dev" / "nya_Latn.dev", "Chimodzi.")
    with pytest.raises(CorpusError, match="eng_Latn 2, nya_Latn 1"):
        read_dataset(tmp_path, "facebook/flores", "eng_Latn-nya_Latn")


def test_parsinlu_entailment(tmp_path) -> None:
    write(tmp_path / "parsinlu-entailment" / "test.csv", ",sent1,sent2,label,source", '1,"a, b",c,e,wiki')
    rows = read_dataset(tmp_path, "persiannlp/parsinlu_entailment", None)["test"]
    assert rows[0] == {"sent1": "a, b", "sent2": "c", "label": "e", "category": "wiki"}


def test_the_hubs_layout_is_read_by_datasets(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "owner" / "tasks"
    write(folder / "data" / "sw" / "test.jsonl", json.dumps({"question": "Je?"}))
    write(
        folder / "README.md",
        *(
            "---",
            "configs:",
            "- config_name: sw",
            "  data_files:",
            "  - split: test",
            "    path: data/sw/test.jsonl",
            "---",
        ),
    )
    assert read_dataset(tmp_path, "owner/tasks", "sw")["test"][0] == {"question": "Je?"}
    with pytest.raises(LackingDataError, match="has no 'et'"):
        read_dataset(tmp_path, "owner/tasks", "et")
    with pytest.raises(LackingDataError, match="has no folder owner/others, as the hub has it"):
        read_dataset(tmp_path, "owner/others", "sw")


def test_a_file_that_changed_is_read_anew(tmp_path) -> None:
    form = "---\nconfigs:\n- config_name: default\n  data_files: [{split: test, path: test.jsonl}]\n---\n"
    for word in ("maji", "moto"):
        write(tmp_path / "me" / "own" / "README.md", form)
        write(tmp_path / "me" / "own" / "test.jsonl", json.dumps({"question": word}))
        assert read_dataset(tmp_path, "me/own", None)["test"]["question"] == [word]
