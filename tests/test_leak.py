"""Measured text never trains, in whatever form it stands in what trains; one run, with all forms planted."""

from __future__ import annotations

import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import lingraft
from lingraft.corpus.read import read_records, write_records, write_texts
from lingraft.corpus.tokenize import open_table
from lingraft.corpus.words import normal_form

pytestmark = pytest.mark.integration

MARK = "qx"
"""Begins every word that is measured, and no other."""


def measured_text(number: int, words: int = 20) -> str:
    draw = random.Random(number)
    return " ".join(MARK + "".join(draw.choice("aeioué") for _ in range(5)) for _ in range(words)) + "."


def with_invisible(text: str) -> str:
    signs = ["\u200b", "\ufeff", "\u00ad", "\u200d", "\u200c", "\u2060", "\ufe0f"]
    return "".join(letter + signs[i % len(signs)] for i, letter in enumerate(text))


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


PLAIN = "watu nyumba maji moto kitabu shule mtoto mama baba jua mwezi samaki"
PLANTED = {
    "whole": lambda text: text,
    "decomposed": lambda text: decomposed(text),
    "with invisible characters": with_invisible,
    "with other white space": lambda text: "\n " + text.replace(" ", "\u00a0\t \n"),
    "in upper case": str.upper,
    "in wide letters": lambda text: "".join(chr(ord(c) + 0xFEE0) if "a" <= c <= "z" else c for c in text),
    "as a paragraph": lambda text: f"{PLAIN}\n\n{text}\n\n{PLAIN}",
    "as a line": lambda text: f"{PLAIN}\n{text.upper()}\n{PLAIN}",
    "within a line": lambda text: f"{PLAIN} «{text.replace(' ', ', ')}» {PLAIN}",
    "in part": lambda text: f"{PLAIN} {' '.join(text.split()[3:16])} {PLAIN}",
    "decomposed, in upper case, as a paragraph": lambda text: f"{PLAIN}\n\n{decomposed(text.upper())}",
}
SHORT = {
    "a short text, whole": lambda text: f"  {text.upper()} ",
    "a short text as a line": lambda text: f"{PLAIN}\n- {text}\n{PLAIN}",
    "a short text as a wrapped paragraph": lambda text: f"{PLAIN}\n\n{text.replace(' ', chr(10))}\n\n{PLAIN}",
}
THAI = "ภาษาไทยเขียนติดกันโดยไม่มีช่องว่างระหว่างคำและอ่านได้ตามปกติ"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, chat_base: Path) -> tuple[dict[str, Any], Path]:
    """The results of a run over planted text, and its folder."""
    folder = tmp_path_factory.mktemp("leak")
    texts = [measured_text(i) for i in range(len(PLANTED))]
    short = [measured_text(100 + i, words=6) for i in range(len(SHORT))]
    pair, asked, answered = measured_text(200), measured_text(201), measured_text(202)
    question = {"context": measured_text(300, 9), "choices": [" " + measured_text(301, 9), " maji"], "answer": 0}

    draw = random.Random(0)
    own = [" ".join(draw.choice(PLAIN.split()) for _ in range(20)) for _ in range(60)]
    planted = [plant(text) for plant, text in zip(PLANTED.values(), texts, strict=True)]
    planted += [plant(text) for plant, text in zip(SHORT.values(), short, strict=True)]
    planted += [f"{PLAIN}{THAI[3:40]}{PLAIN}", f"{PLAIN}\n{question['context']}{question['choices'][0]}"]
    corpus = own + planted
    draw.shuffle(corpus)
    write_texts(folder / "corpus.jsonl", corpus)
    write_texts(folder / "measured.jsonl", [*texts, *short, THAI, asked, answered, "Ndiyo."])
    write_texts(folder / "english.jsonl", [pair, "water and fire"])
    write_records(folder / "questions.jsonl", [question])
    sides = [{"eng": f"water {i}", "swh": f"maji {i}"} for i in range(20)]
    write_records(folder / "pairs.jsonl", [*sides, {"eng": with_invisible(pair), "swh": "maji"}])
    write_records(
        folder / "instructions.jsonl",
        [
            *({"instruction": f"sema {i}", "output": "Ndiyo."} for i in range(20)),
            {"instruction": asked.upper(), "output": "Ndiyo."},
            {"instruction": "andika", "output": f"Ndiyo.\n\n{decomposed(answered)}"},
            {"instruction": "jibu", "input": question["context"] + question["choices"][0], "output": "Ndiyo."},
        ],
    )
    training = {"max_steps": 1, "per_device_train_batch_size": 4}
    recipe = {
        "base": str(chat_base),
        "languages": {"learn": ["swh_Latn"], "retain": ["eng_Latn"]},
        "max_length": 256,
        "stages": {
            "adapt": {
                "corpus": [
                    {"language": "swh_Latn", "files": str(folder / "corpus.jsonl")},
                    {"parallel": {"eng_Latn": "eng", "swh_Latn": "swh"}, "files": str(folder / "pairs.jsonl")},
                ],
                "method": {"name": "lora", "rank": 2},
                "training": training,
            },
            "instruct": {
                "instructions": [{"language": "swh_Latn", "files": str(folder / "instructions.jsonl")}],
                "method": {"name": "lora", "rank": 2},
                "training": training,
            },
        },
        "validation": {"share": 0.1, "blocks": 4},
        "evaluation": {
            "text": {"swh_Latn": str(folder / "measured.jsonl"), "eng_Latn": str(folder / "english.jsonl")},
            "tasks": {"knowledge": {"swh_Latn": str(folder / "questions.jsonl")}},
            "num_samples": 0,
        },
    }
    return lingraft.run(recipe, folder / "out"), folder / "out"


def test_nothing_that_is_measured_trains(run, chat_base) -> None:
    _, out = run
    blocks = open_table(out / "work/stage-adapt/blocks/training.arrow")
    ids = [i for block in blocks for i in block["input_ids"]]
    trained = normal_form(AutoTokenizer.from_pretrained(chat_base).decode(ids))
    assert "maji" in trained
    assert MARK not in trained
    assert not set(THAI) & set(trained)
    records = read_records([out / "work/stage-instruct/instructions/training.jsonl"])
    learned = json.dumps(list(records), ensure_ascii=False)
    assert "sema" in learned
    assert MARK not in normal_form(learned)


def test_all_that_is_planted_is_counted(run) -> None:
    results, out = run
    text, pairs, instructions = results["overlap"]
    assert (text["stage"], text["language"], text["left_out"]) == ("adapt", "swh_Latn", len(PLANTED) + len(SHORT) + 2)
    assert text["sources"] == {
        "evaluation.text swh_Latn": len(PLANTED) + len(SHORT) + 1,
        "evaluation.tasks.knowledge swh_Latn": 1,
    }
    assert text["kinds"] == {"document": 7, "line": 6, "n-gram": 3}
    assert (pairs["left_out"], pairs["documents"]) == (2, 42)  # in both orders
    assert (instructions["stage"], instructions["left_out"], instructions["documents"]) == ("instruct", 3, 23)
    assert instructions["first"]["place"] == "instructions.jsonl:21"
    assert pairs["first"]["place"] == "pairs.jsonl:21"
    name, line = text["first"]["place"].split(":")
    planted = (out.parent / name).read_text().splitlines()[int(line) - 1]
    passage = normal_form(text["first"]["passage"].rstrip("…"))
    assert passage in " ".join(normal_form(json.loads(planted)["text"]).split())
    page = (out / "report.html").read_text()
    assert text["first"]["passage"] in page
    assert "evaluation.tasks.knowledge swh_Latn 1" in page
