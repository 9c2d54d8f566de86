"""Alignment of sentences as a task of a run: measured before, while it trains, and after."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

import lingraft
from lingraft.errors import CorpusError, RecipeError
from lingraft.evaluation.alignment import Alignment, SentencePairs, aligned, aligned_pairs, read_pairs

BOTH = ("eng_Latn", "swh_Latn")
NAMES = ["Zuri", "Kwame", "Elias", "Bosco", "Tunda", "Mwangi", "Pendo", "Jabali"]
ENGLISH = [f"here was born {name} {name} {name} long ago" for name in NAMES]
SWAHILI = [f"hapa alizaliwa {name} {name} {name} zamani sana" for name in NAMES]


@pytest.fixture
def pairs(tmp_path) -> Path:
    file = tmp_path / "pairs.jsonl"
    records = [{"en": en, "sw": sw} for en, sw in zip(ENGLISH, SWAHILI, strict=True)]
    file.write_text("\n".join(map(json.dumps, records)))
    return file


def test_a_pair_is_aligned_where_each_is_the_others_nearest() -> None:
    one = torch.eye(3)[None]
    other = torch.tensor([[[1.0, 0, 0], [0.9, 0.1, 0], [0, 0, 1.0]]])
    assert aligned(one, one).tolist() == [[True] * 3]
    assert aligned(one, other).tolist() == [[True, False, True]]  # the second lies closer to the first


def test_a_pair_is_worth_the_share_of_layers_at_which_it_is_aligned(make_model, documents) -> None:
    model = make_model(max_position_embeddings=256).float()
    pairs = list(zip(ENGLISH, SWAHILI, strict=True))
    scores = Alignment({"swh_Latn": SentencePairs(BOTH, pairs)}).scores(model, documents, 256)["swh_Latn"]
    by_layer = aligned_pairs(model, documents, pairs, 256)
    assert by_layer.shape == (model.config.num_hidden_layers + 1, 8)
    assert scores.values["acc"].tolist() == pytest.approx(by_layer[1:].double().mean(0).tolist())
    assert scores.chance == 1 / 15  # the largest of eight in its row and eight in its column
    twice = SentencePairs(BOTH, [(text, text) for text in ENGLISH])
    same = Alignment({"swh_Latn": twice}).scores(model, documents, 256)["swh_Latn"]
    assert same.values["acc"].tolist() == [1.0] * 8


def test_a_run_measures_alignment_and_does_not_train_on_the_pairs(recipe, texts, pairs, tmp_path) -> None:
    file = texts["swh_Latn"]
    field = next(iter(json.loads(file.read_text().splitlines()[0])))
    with file.open("a") as more:
        more.write("\n" + json.dumps({field: SWAHILI[3]}) + "\n")
    recipe["max_length"] = 64
    recipe["training"]["eval_steps"] = 3
    recipe["evaluation"]["pairs"] = [{"parallel": {"eng_Latn": "en", "swh_Latn": "sw"}, "files": pairs.name}]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    results = lingraft.run(tmp_path / "recipe.yaml", tmp_path / "out")
    task = results["tasks"]["alignment"]
    assert task["languages"].keys() == {"swh_Latn"}  # the learned one of both
    assert task["languages"]["swh_Latn"]["questions"] == 8
    assert task["languages"]["swh_Latn"]["aligned_with"] == "eng_Latn"
    assert {"before", "after", "ci95"} <= task["languages"]["swh_Latn"]["score"].keys()
    log = json.loads((tmp_path / "out" / "training.json").read_text())["log"]
    watched = [entry["alignment_swh_Latn"] for entry in log if "alignment_swh_Latn" in entry]
    assert len(watched) >= 3
    assert watched[0] > 0.1  # of eight pairs, by their names
    assert watched[0] == pytest.approx(task["languages"]["swh_Latn"]["score"]["before"], abs=0.03)
    (overlap,) = results["overlap"]
    assert (overlap["left_out"], overlap["sources"]) == (1, {"evaluation.pairs swh_Latn": 1})
    assert "alignment, % of up to 32 pairs and all layers" in (tmp_path / "out" / "report.html").read_text()
    again = yaml.safe_load((tmp_path / "out" / "recipe.resolved.yaml").read_text())
    assert again["evaluation"]["pairs"][0]["files"] == [str(pairs)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([{"parallel": {"eng_Latn": "en", "spa_Latn": "es"}}], r"pairs\.0: neither eng_Latn nor spa_Latn is learned"),
        (
            [{"parallel": {"eng_Latn": "en", "swh_Latn": "sw"}}, {"parallel": {"swh_Latn": "sw", "spa_Latn": "es"}}],
            r"pairs\.1: there are pairs of swh_Latn already, in evaluation\.pairs\.0",
        ),
        (
            [{"parallel": {"eng_Latn": "en", "swh_Latn": "sw"}, "file": "a"}],
            r"pairs\.0\.file: unknown key \(did you mean 'files'\?\); allowed here: parallel, files$",
        ),
        ([{"parallel": {"eng_Latn": "en"}}], r"pairs\.0\.parallel: .*at least 2"),
    ],
)
def test_pairs_that_cannot_be_told_of_a_language_are_refused(recipe, pairs, given, said) -> None:
    recipe["evaluation"]["pairs"] = [{**of, "files": str(pairs)} for of in given]
    with pytest.raises(RecipeError, match=said):
        lingraft.run(recipe, pairs.parent / "out")


def test_files_without_pairs_are_told_by_their_place(pairs) -> None:
    with pytest.raises(CorpusError, match=r"pairs\.jsonl:1: there is no text in the field 'da'; the record has en, sw"):
        read_pairs([pairs], ("en", "da"))
    pairs.write_text(json.dumps({"en": "short", "sw": "fupi"}))
    with pytest.raises(CorpusError, match="0 pairs of 30 characters and more"):
        read_pairs([pairs], ("en", "sw"))


@pytest.mark.parametrize(
    "method",
    [
        "{name: silent-adapters, extra_width: 8}",
        "{name: neutral-residues}",
        "{name: block-expansion, blocks: 2}",
        "{name: lora, rank: 2}",
    ],
)
def test_every_method_is_measured_while_it_trains(recipe, pairs, tmp_path, method) -> None:
    recipe["max_length"], recipe["method"] = 64, yaml.safe_load(method)
    recipe["evaluation"] |= {"pairs": [{"parallel": {"eng_Latn": "en", "swh_Latn": "sw"}, "files": str(pairs)}]}
    if "silent" in method:
        recipe["replay"] = {"self_generated": 0.2}
    results = lingraft.run(recipe, tmp_path / "out")
    log = json.loads((tmp_path / "out" / "training.json").read_text())["log"]
    watched = [entry["alignment_swh_Latn"] for entry in log if "alignment_swh_Latn" in entry]
    score = results["tasks"]["alignment"]["languages"]["swh_Latn"]["score"]
    assert (watched[0], watched[-1]) == pytest.approx((score["before"], score["after"]), abs=0.07)
