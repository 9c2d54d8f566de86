"""Advice before a run."""

from __future__ import annotations

import json

import pytest
import transformers
import yaml

import lingraft
from lingraft.advice.facts import SEEN, Facts, TextFacts
from lingraft.advice.foretell import STEPS, Rehearsed, foretell, rehearsal_of
from lingraft.advice.rules import EPOCHS, MOST_NEW_TOKENS, RULES, unknown
from lingraft.errors import UserError
from lingraft.families import OBSERVED, TRAINED, by_family, family_of
from lingraft.languages import code_of
from lingraft.recipe import load_recipe
from lingraft.vocabulary.fertility import Fertility

LLAMA = transformers.LlamaConfig(hidden_size=4096, num_hidden_layers=32, num_attention_heads=32)


def text(tokens_per_word=1.5, tokens=2_000_000_000, byte_tokens=0, split_words=3000) -> TextFacts:
    """Text of five-letter words, of which a sample of 1,000 was read."""
    count = round(1000 * tokens_per_word)
    counts = Fertility(1000, 6000, 6000, count, byte_tokens, 0)
    return TextFacts(round(tokens * counts.bytes_per_token), counts, split_words)


def advised(goal="balanced", *, learn=None, retain=("eng_Latn",), config=LLAMA, **known):
    """Topic -> advice."""
    facts = Facts(
        "some/base",
        config,
        8_000_000_000,
        known.pop("is_instruct", False),
        learn or {"swh_Latn": text()},
        dict.fromkeys(retain),
        text().counts,
        **known,
    )
    return {advice.topic: advice for rule in RULES if (advice := rule(facts, goal))}


def test_all_advice_has_a_source_and_says_it_in_keys_of_a_recipe_that_exist(base, texts, tmp_path) -> None:
    for goal in ("balanced", "comprehension", "translation"):
        for topic, advice in advised(goal, is_instruct=True, learn={"glg_Latn": text(4, 1_000_000)}).items():
            assert advice.reason, topic
            assert "arXiv" in advice.source or "docs/" in advice.source, topic
    lingraft.init(str(base), ["swh_Latn"], text=str(texts["swh_Latn"]), out=tmp_path / "a.yaml")
    recipe = yaml.safe_load((tmp_path / "a.yaml").read_text())
    for path, value in advised("translation")["method"].keys.items():
        recipe[path] = value
    assert load_recipe(recipe | {"merge": [{"revert": {"first": 1, "last": 1}}]})


def test_a_new_script_that_falls_to_bytes_needs_new_tokens() -> None:
    found = advised(learn={"urd_Arab": text(6, byte_tokens=5000, split_words=40_000)})
    assert found["new tokens"].keys == {"vocabulary.new_tokens": MOST_NEW_TOKENS}
    assert "Arabic is the script of no retained language" in found["script"].choice
    assert advised(learn={"urd_Arab": text(6, split_words=1234)})["new tokens"].keys["vocabulary.new_tokens"] == 1200
    little, thai = advised(learn={"urd_Arab": text(6, split_words=12)}), advised(learn={"tha_Thai": text(60)})
    assert (little["new tokens"].choice, little["new tokens"].keys) == ("none with so little text", {})
    assert "by a sweep" in thai["new tokens"].choice


def test_a_related_language_is_found_and_needs_no_tokens_of_its_own() -> None:
    found = advised(learn={"glg_Latn": text()}, retain=("eng_Latn", "spa_Latn"))
    assert "spa_Latn is of glg_Latn's family (Romance)" in found["relatives"].reason
    assert (found["new tokens"].choice, found["new tokens"].keys) == ("none", {})


def test_translation_trains_all_weights_and_reverts_the_middle() -> None:
    keys = advised("translation")["method"].keys
    assert keys == {"method": {"name": "full"}, "merge": [{"revert": {"first": 8, "last": 6}}]}


def test_comprehension_freezes_the_middle() -> None:
    keys = advised("comprehension")["method"].keys
    assert keys == {"method": {"name": "freeze", "first": 8, "last": 6, "embeddings": True}}


def test_layers_are_those_in_which_sentences_agree() -> None:
    assert advised("comprehension")["layers"].choice == "first 8, last 6 of 32"
    pairs, proposed = {"eng_Latn–swh_Latn": [0.5, 0.9]}, {"first": 5, "last": 3, "depth": 32}
    found = advised("comprehension", pairs=pairs, proposed=proposed)["layers"]
    assert (found.choice, found.source) == ("first 5, last 3 of 32", "arXiv 2410.05873")
    assert "too few sentence pairs" in advised("comprehension", pairs=pairs)["layers"].reason


def test_five_megabytes_of_text_are_read_four_times() -> None:
    found = advised(learn={"swh_Latn": text(tokens=1_500_000)})["amount"]
    assert found.keys == {"corpus.0.max_epochs": EPOCHS}
    assert "6,000,000" in found.choice


def test_five_families_are_five_runs_and_their_mean() -> None:
    learn = dict.fromkeys(["pol_Latn", "dan_Latn", "hin_Deva", "ind_Latn", "glg_Latn"], text())
    assert "a run for each family" in advised(learn=learn)["families"].choice
    found = advised("coverage", learn=learn)
    assert "5 runs (Slavic, Germanic, Indic, Austronesian, Romance)" in found["method"].choice
    assert "families" not in found


def test_what_is_not_known_is_said() -> None:
    facts = Facts("some/base", None, None, False, {"swh_Latn": None}, {}, None)
    said = " ".join(unknown(facts, "balanced"))
    for words in ("rehearse", "the base: its depth", "fertility and amount of swh_Latn", "give --retain", "--pairs"):
        assert words in said


def test_languages_of_families_are_languages() -> None:
    for lists in (TRAINED, OBSERVED):
        for codes in lists.values():
            assert all(code_of(f"{code}_Latn") for code in codes.split())
    assert (family_of("tgl_Latn"), family_of("nya_Latn")) == ("Austronesian", None)
    assert by_family(["glg_Latn", "nya_Latn", "spa_Latn"]) == {
        "Romance": ["glg_Latn", "spa_Latn"],
        "nya_Latn": ["nya_Latn"],
    }


def test_a_recipe_is_told_where_it_differs(shared_recipe, tmp_path) -> None:
    recipe = json.loads(json.dumps(shared_recipe)) | {"method": {"name": "full"}}
    recipe.pop("replay", None)
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    found = lingraft.advise(tmp_path / "recipe.yaml", out=tmp_path / "advice.json")
    differs = {advice["topic"]: advice["differs"] for advice in found["advice"]}
    assert differs["method"]["method"]["name"] == "full"
    assert differs["replay"]["replay.self_generated"] is None
    assert "bits per byte of it" in " ".join(found["facts"])
    assert json.loads((tmp_path / "advice.json").read_text()) == json.loads(json.dumps(found))
    recipe |= {"method": found["advice"][0]["keys"]["method"], "replay": {"self_generated": 0.2}}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    assert lingraft.advise(tmp_path / "recipe.yaml")["advice"][0]["differs"] == {}


def test_words_that_the_tokenizer_splits_are_counted_once_and_only_where_they_are_many(base, tmp_path) -> None:
    (tmp_path / "a.txt").write_text("nyumba maji " * SEEN + "\n\n" + "moto " * (SEEN - 1))
    lines = lingraft.advise(base=str(base), learn=["swh_Latn"], text={"swh_Latn": str(tmp_path / "a.txt")})["facts"]
    assert any("swh_Latn (learn)" in line for line in lines)


def test_wrong_questions_are_refused(base, recipe, tmp_path) -> None:
    with pytest.raises(UserError, match="give either a recipe, or --base with --learn"):
        lingraft.advise()
    with pytest.raises(UserError, match=r"--goal readin: there is no such goal"):
        lingraft.advise(base=str(base), learn=["swh_Latn"], goal="readin")
    with pytest.raises(UserError, match="no language to learn"):
        lingraft.advise(base=str(base))
    with pytest.raises(UserError, match="spa_Latn is not learned"):
        lingraft.advise(base=str(base), learn=["swh_Latn"], text={"spa_Latn": "a.txt"})


def rehearsed(x: float, y: float, method: str = "full") -> Rehearsed:
    return Rehearsed(method, {"learning": x}, {"learning": y}, "a run")


def test_the_final_figure_lies_on_the_line_of_earlier_runs() -> None:
    found = foretell({"learning": 0.5}, "full", [rehearsed(x, 0.2 + x) for x in (0.1, 0.2, 0.3, 0.4)])
    assert found["learning"].expected == pytest.approx(0.7)
    assert found["learning"].low == pytest.approx(found["learning"].high)


def test_a_rehearsal_unlike_earlier_runs_has_a_wider_interval() -> None:
    runs = [rehearsed(x, 0.2 + x + error) for x, error in ((0.1, 0.01), (0.2, -0.01), (0.3, -0.01), (0.4, 0.01))]
    near, far = (foretell({"learning": x}, "full", runs)["learning"] for x in (0.25, 1.0))
    assert near.expected == pytest.approx(0.45)
    assert 0 < near.high - near.low < far.high - far.low
    # scipy.stats.linregress and t: s = 0.02 / sqrt(2), t = 4.303, n = 4
    assert near.high - near.expected == pytest.approx(4.303 * 0.02 / 2**0.5 * (1 + 1 / 4) ** 0.5)


def test_nothing_is_foretold_from_a_few_runs_or_those_of_another_method() -> None:
    runs = [rehearsed(x, x) for x in (0.1, 0.2, 0.3)]
    assert foretell({"learning": 0.2}, "full", runs) == {}
    assert foretell({"learning": 0.2}, "lora", [*runs, rehearsed(0.4, 0.4)]) == {}


def test_a_rehearsal_has_a_twentieth_of_the_tokens_in_as_many_steps_as_they_allow(recipe) -> None:
    recipe["corpus"][0]["tokens"] = 100_000
    recipe["training"]["per_device_train_batch_size"] = 8
    resolved = load_recipe(recipe)
    values = rehearsal_of(resolved)
    rehearsal = load_recipe(values)
    assert rehearsal.only.corpus[0].tokens == 5_000
    batch = rehearsal.only.training["per_device_train_batch_size"]
    assert batch == max(1, min(8, 5_000 // (STEPS * resolved.length)))
    assert rehearsal.only.method == resolved.only.method


def test_a_recipe_is_rehearsed_and_the_run_foretold(shared_recipe, tmp_path) -> None:
    recipe = json.loads(json.dumps(shared_recipe))
    recipe["corpus"][0]["tokens"] = 2000
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    found = lingraft.advise(tmp_path / "recipe.yaml", rehearsal=tmp_path / "rehearsal")["rehearsal"]
    results = json.loads((tmp_path / "rehearsal" / "results.json").read_text())
    assert found["rehearsal"] == {figure: results[figure] for figure in ("learning", "forgetting")}
    assert (found["share"], found["method"]) == (0.05, recipe["method"]["name"])
