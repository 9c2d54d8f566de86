"""Advice before a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers
import yaml
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Metaspace

import lingraft
from lingraft.advice.facts import SEEN, Facts, TextFacts, split_words
from lingraft.advice.foretell import Rehearsed, foretell, kind_of, rehearsal_of
from lingraft.advice.rules import EPOCHS, MOST_NEW_TOKENS, RULES, unknown
from lingraft.errors import ModelError, OutputError, UserError
from lingraft.families import OBSERVED, TRAINED, by_family, family_of
from lingraft.languages import code_of
from lingraft.pipeline.plan import make_plan
from lingraft.recipe import load_recipe
from lingraft.recipe.goals import GOALS
from lingraft.recipe.overrides import set_values
from lingraft.vocabulary.fertility import Fertility

LLAMA = transformers.LlamaConfig(hidden_size=4096, num_hidden_layers=32, num_attention_heads=32)


def text(tokens_per_word=1.5, tokens=2_000_000_000, byte_tokens=0, split_words=3000, characters=6) -> TextFacts:
    """Text of which a sample of 1,000 words was read."""
    count = round(1000 * tokens_per_word)
    counts = Fertility(1000, 1000 * characters, 1000 * characters, count, byte_tokens, 0)
    return TextFacts(round(tokens * counts.bytes_per_token), counts, split_words)


def advised(goal="balanced", *, learn=None, retain=("eng_Latn",), config=LLAMA, **known):
    """Topic -> advice."""
    facts = Facts(
        "some/base",
        config,
        8_000_000_000,
        None if known.pop("is_instruct", False) else "no chat template",
        learn or {"swh_Latn": text()},
        dict.fromkeys(retain, "no text was given"),
        text().counts,
        **known,
    )
    return {advice.topic: advice for rule in RULES if (advice := rule(facts, goal))}


@pytest.mark.parametrize("goal", GOALS)
def test_all_advice_has_a_source_and_keys_with_which_a_recipe_loads(base, texts, tmp_path, goal) -> None:
    lingraft.init(str(base), ["swh_Latn"], text=str(texts["swh_Latn"]), out=tmp_path / "a.yaml")
    recipe = yaml.safe_load((tmp_path / "a.yaml").read_text())
    learn = {"swh_Latn": text(4, 1_000_000, split_words=300), "pol_Latn": text(4, 1_000_000)}
    config = transformers.LlamaConfig(hidden_size=32, num_hidden_layers=4, num_attention_heads=4)
    found = advised(goal, learn=learn, config=config)
    for topic, advice in found.items():
        assert advice.reason, topic
        assert "arXiv" in advice.source or "docs/" in advice.source, topic
        if topic != "chat":
            set_values(recipe, advice.keys)
    assert load_recipe(recipe).only.method.name == found["method"].keys["method"]["name"]


def test_a_new_script_that_falls_to_bytes_needs_new_tokens() -> None:
    learn = {"urd_Arab": text(6, byte_tokens=5000, split_words=40_000)}
    found = advised(learn=learn, retain=("eng_Latn", "hin_Deva"))
    assert found["new tokens"].keys == {"vocabulary.new_tokens": MOST_NEW_TOKENS}
    assert "Arabic (urd_Arab) is the script of no retained language" in found["script"].choice
    assert "relatives" not in found  # Hindi is, in another script
    assert advised(learn={"urd_Arab": text(6, split_words=1234)})["new tokens"].keys["vocabulary.new_tokens"] == 1200
    little, thai = (
        advised(learn={"urd_Arab": text(6, split_words=12)}),
        advised(learn={"tha_Thai": text(60, characters=60)}),
    )
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
    pairs = {"eng_Latn–swh_Latn": [0.5, 0.9]}
    found = advised("comprehension", pairs=pairs, proposed=(5, 3))
    layers = found["layers"]
    assert (layers.choice, layers.source) == ("first 5, last 3 of 32", "arXiv 2410.05873")
    assert found["method"].keys["method"]["first"] == 5  # which a recipe is compared with
    assert "too few pairs are aligned" in advised("comprehension", pairs=pairs)["layers"].reason


def test_five_megabytes_of_text_are_read_four_times() -> None:
    found = advised(learn={"swh_Latn": text(tokens=1_500_000)})["amount"]
    assert found.keys == {"corpus.0.max_epochs": EPOCHS}
    assert "6,000,000" in found.choice
    assert "batch_size" not in found.choice  # 366 steps of eight blocks
    small = advised(learn={"swh_Latn": text(tokens=90_000)})["amount"]
    assert small.keys["training.per_device_train_batch_size"] == 2
    assert "per_device_train_batch_size 2" in small.choice


def test_five_families_are_five_runs_and_their_mean() -> None:
    learn = dict.fromkeys(["pol_Latn", "dan_Latn", "hin_Deva", "ind_Latn", "glg_Latn"], text())
    assert "a run for each family" in advised(learn=learn)["families"].choice
    found = advised("coverage", learn=learn)
    assert "5 runs (Slavic, Germanic, Indic, Austronesian, Romance)" in found["method"].choice
    assert "families" not in found


def test_what_is_not_known_is_said() -> None:
    facts = Facts("some/base", None, None, None, {"swh_Latn": "no text was given"}, {}, None)
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


def test_words_are_counted_where_they_are_split_within_a_text_and_often(tokenizer) -> None:
    backend = tokenizer.backend_tokenizer  # of bytes: it splits every word
    often, seldom = "नमस्ते " * SEEN, "moto " * (SEEN - 1)
    assert split_words(backend, [f"{often} nyumba, " * 1 + "nyumba, " * SEEN + seldom + "12 " * SEEN], 1) == 2
    assert split_words(backend, [seldom], 2) == 1  # the whole text has twice as many
    whole = Tokenizer(WordLevel({"maji": 0, "?": 1}, "?"))
    whole.pre_tokenizer = Metaspace()  # each word begins with a mark of its own
    assert split_words(whole, ["maji " * SEEN], 1) == 0


def test_a_recipe_of_stages_is_compared_with_its_last_stage(shared_recipe, tmp_path) -> None:
    recipe = json.loads(json.dumps(shared_recipe))
    stage = {key: recipe.pop(key) for key in ("corpus", "method", "training", "replay") if key in recipe}
    replay = {"self_generated": 0.2, "kl_weight": 4}
    full = {**stage, "method": {"name": "full"}, "replay": replay}
    recipe["stages"] = {"one": full, "two": {**full, "method": {"name": "layra", "first": 1, "last": 1}}}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    differs = {one["topic"]: one["differs"] for one in lingraft.advise(tmp_path / "recipe.yaml")["advice"]}
    assert differs["replay"] == {}
    assert differs["method"]["method"]["name"] == "layra"


def test_text_is_read_as_the_recipe_reads_it(shared_recipe, tmp_path) -> None:
    recipe = json.loads(json.dumps(shared_recipe))
    texts = [json.loads(line)["text"] for line in Path(recipe["corpus"][0]["files"]).read_text().splitlines()]
    (tmp_path / "other.jsonl").write_text("".join(json.dumps({"maandishi": one}) + "\n" for one in texts))
    recipe["corpus"][0] |= {"files": str(tmp_path / "other.jsonl"), "text_field": "maandishi"}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    (line,) = [line for line in lingraft.advise(tmp_path / "recipe.yaml")["facts"] if line.startswith("swh_Latn")]
    assert f"{sum(len(one.encode()) for one in texts) / 1e6:,.1f} MB" in line


def test_a_base_that_is_not_there_is_an_error_and_one_of_the_hub_is_not(tmp_path) -> None:
    with pytest.raises(ModelError, match=r"\./nothing"):
        lingraft.advise(base="./nothing", learn=["swh_Latn"])
    (tmp_path / "a.txt").write_text("maji")
    found = lingraft.advise(base="some/base", learn=["swh_Latn"], text={"swh_Latn": str(tmp_path / "a.txt")})
    assert "its tokens are not known without the base" in " ".join(found["facts"])


def test_wrong_questions_are_refused(base, recipe, tmp_path) -> None:
    with pytest.raises(UserError, match="give either a recipe, or --base with --learn"):
        lingraft.advise()
    with pytest.raises(UserError, match=r"--goal readin: there is no such goal"):
        lingraft.advise(base=str(base), learn=["swh_Latn"], goal="readin")
    with pytest.raises(UserError, match="no language to learn"):
        lingraft.advise(base=str(base))
    with pytest.raises(UserError, match="is named twice"):
        lingraft.advise(base=str(base), learn=["swh_Latn"], text={"swh_Latn": "a.txt", "swahili": "b.txt"})
    with pytest.raises(UserError, match="named more than once"):
        lingraft.advise(base=str(base), learn=["swh_Latn"], retain=["swh_Latn"])
    with pytest.raises(UserError, match="the recipe names its own languages"):
        lingraft.advise(tmp_path / "recipe.yaml", learn=["swh_Latn"])
    with pytest.raises(UserError, match="spa_Latn is not learned"):
        lingraft.advise(base=str(base), learn=["swh_Latn"], text={"spa_Latn": "a.txt"})


def rehearsed(x: float, y: float, kind: str = "full") -> Rehearsed:
    return Rehearsed(kind, {"learning": x}, {"learning": y}, "a base", "a run")


def test_the_final_figure_lies_on_the_line_of_earlier_runs() -> None:
    found = foretell({"learning": 0.5}, "full", [rehearsed(x, 0.2 + x) for x in (0.1, 0.2, 0.3, 0.4)])
    assert found["learning"].expected == pytest.approx(0.7)
    assert found["learning"].low == pytest.approx(found["learning"].high)


def test_a_rehearsal_unlike_earlier_runs_has_a_wider_interval() -> None:
    runs = [rehearsed(x, 0.2 + x + error) for x, error in ((0.1, 0.01), (0.2, -0.01), (0.3, -0.01), (0.4, 0.01))]
    near, far = (foretell({"learning": x}, "full", runs)["learning"] for x in (0.25, 1.0))
    assert near.expected == pytest.approx(0.45)
    assert 0 < near.high - near.low < far.high - far.low
    # s = 0.02 / sqrt(2), t = 4.303 with two degrees of freedom, n = 4
    assert near.high - near.expected == pytest.approx(4.303 * 0.02 / 2**0.5 * (1 + 1 / 4) ** 0.5)


def test_nothing_is_foretold_from_a_few_runs_or_those_of_another_kind() -> None:
    runs = [rehearsed(x, x) for x in (0.1, 0.2, 0.3)]
    assert foretell({"learning": 0.2}, "full", runs) == {}
    assert foretell({"learning": 0.2}, "full", [*runs, rehearsed(0.3, 0.4)]) == {}  # no four places for a line
    assert foretell({"learning": 0.2}, "lora", [*runs, rehearsed(0.4, 0.4)]) == {}


def test_the_kind_of_a_run_is_its_method_and_what_is_beside_it(recipe) -> None:
    assert kind_of(load_recipe(recipe)) == recipe["method"]["name"]
    recipe |= {"replay": {"self_generated": 0.2}, "merge": [{"scale": 0.5}]}
    assert kind_of(load_recipe(recipe)) == f"{recipe['method']['name']} with self-generated text, merge"


def planned(recipe) -> int:
    """Tokens of the text, all of it."""
    whole = load_recipe(recipe | {"corpus": [{**recipe["corpus"][0], "tokens": 10**9}]})
    return make_plan(whole, whole.only).tokens[0]


def test_a_rehearsal_has_a_twentieth_of_the_tokens_that_train(recipe) -> None:
    available = planned(recipe)
    for tokens, max_steps, trained in ((1000, None, 1000), (10**9, None, available), (1000, 5, None)):
        recipe["corpus"][0]["tokens"] = tokens
        recipe["training"] |= {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
        recipe["training"]["max_steps"] = max_steps or -1
        resolved = load_recipe(recipe)
        rehearsal = load_recipe(rehearsal_of(resolved))
        expected = trained or 5 * 2 * 2 * resolved.length
        assert rehearsal.only.corpus[0].tokens == pytest.approx(0.05 * expected, rel=0.05)
        assert rehearsal.only.training.get("max_steps", -1) == -1
        assert rehearsal.only.training["gradient_accumulation_steps"] == 1
        assert rehearsal.only.method == resolved.only.method


def test_a_recipe_is_rehearsed_and_a_run_is_not_written_over(shared_recipe, tmp_path) -> None:
    recipe = json.loads(json.dumps(shared_recipe))
    recipe["corpus"][0]["tokens"] = 2000
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    for _ in range(2):  # finished, it stays
        found = lingraft.advise(tmp_path / "recipe.yaml", rehearsal=tmp_path / "rehearsal")["rehearsal"]
    results = json.loads((tmp_path / "rehearsal" / "results.json").read_text())
    assert found["rehearsal"] == {figure: results[figure] for figure in ("learning", "forgetting")}
    assert (found["share"], found["kind"]) == (0.05, recipe["method"]["name"])
    recipe["training"]["learning_rate"] = 1e-2
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    with pytest.raises(OutputError, match="holds no rehearsal of this recipe"):
        lingraft.advise(tmp_path / "recipe.yaml", rehearsal=tmp_path / "rehearsal")
