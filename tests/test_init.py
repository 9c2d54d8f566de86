from __future__ import annotations

import json

import pytest
import yaml

import lingraft
from lingraft.errors import OutputError, RecipeError, UserError
from lingraft.pipeline.sweep import check_recipes
from lingraft.recipe import load_recipe
from lingraft.recipe.goals import GOALS
from lingraft.recipe.sweep import points_of, read_sweep


@pytest.fixture
def first(base, tmp_path, monkeypatch):
    """A factory of first recipes in the current folder, loaded."""
    monkeypatch.chdir(tmp_path)

    def build(*arguments, **settings):
        lingraft.init(str(base), ["swh_Latn"], *arguments, out=tmp_path / "first.yaml", **settings)
        return load_recipe(tmp_path / "first.yaml")

    return build


@pytest.mark.parametrize("goal", GOALS)
def test_a_first_recipe_loads_as_it_stands(first, texts, goal) -> None:
    recipe = first({"eng_Latn": str(texts["eng_Latn"])}, goal, text=str(texts["swh_Latn"]))
    assert recipe.only.corpus[0].files == [str(texts["swh_Latn"])]
    assert recipe.evaluation.text == {"eng_Latn": [str(texts["eng_Latn"])]}


def test_a_language_without_text_is_measured_on_what_the_base_generates(first, texts) -> None:
    recipe = first(["eng_Latn"], text=[str(texts["swh_Latn"])])
    assert (recipe.evaluation.self_generated, recipe.evaluation.text) == ("eng_Latn", {})
    assert recipe.only.replay.sources == {"document": 1.0}


def test_of_another_language_than_english_a_file_is_named_to_be_given(first, texts) -> None:
    """What a base generates is hardly Spanish."""
    with pytest.raises(RecipeError) as caught:
        first(["eng_Latn", "spa_Latn"], text=str(texts["swh_Latn"]))
    places = [problem.split(":")[0] for problem in caught.value.problems]
    assert places == ["evaluation.text.spa_Latn.0"]


def test_an_instruct_base_keeps_its_chat(first, base, texts) -> None:
    config = json.loads((base / "tokenizer_config.json").read_text())
    (base / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.content + eos_token }}{% endfor %}{% if add_generation_prompt %}A:{% endif %}"
    )
    (base / "tokenizer_config.json").write_text(json.dumps(config))
    recipe = first(["eng_Latn"], text=str(texts["swh_Latn"]))
    assert recipe.languages.retain == ["eng_Latn", "chat"]
    assert recipe.only.replay.sources == {"document": 0.5, "chat": 0.5}


def test_the_default_keeps_the_base_and_closes_what_is_added_on_its_text(first, texts) -> None:
    recipe = first(["eng_Latn"], text=str(texts["swh_Latn"]))
    assert (recipe.only.method.name, recipe.only.replay.kl_weight) == ("silent-adapters", 4)


def test_a_base_with_other_feed_forward_blocks_trains_all_weights(make_model, tokenizer, texts, tmp_path) -> None:
    for part in (make_model("phi3"), tokenizer):
        part.save_pretrained(tmp_path / "phi")
    written = yaml.safe_load(
        lingraft.init(str(tmp_path / "phi"), ["swh_Latn"], out=tmp_path / "a.yaml", text=str(texts["swh_Latn"]))
    )
    assert (written["method"], written["replay"]["kl_weight"]) == ({"name": "full"}, 4)


@pytest.mark.parametrize(("width", "rate"), [(32, 5e-3), (576, 5e-3), (4096, 2e-3)])
def test_the_learning_rate_falls_with_the_width_of_the_base(tmp_path, width, rate) -> None:
    config = {"model_type": "llama", "hidden_size": width, "num_hidden_layers": 4, "num_attention_heads": 4}
    (tmp_path / "base").mkdir()
    (tmp_path / "base/config.json").write_text(json.dumps(config))
    written = yaml.safe_load(lingraft.init(str(tmp_path / "base"), ["swh_Latn"], out=tmp_path / "a.yaml"))
    assert written["training"]["learning_rate"] == rate


def test_little_text_trains_in_small_steps(first, tmp_path) -> None:
    """Else half a megabyte would give ten steps, in which nothing is learned."""
    for megabytes, batch in ((0.5, 1), (2.5, 4), (6, 8)):
        (tmp_path / "text.txt").write_bytes(b"maji mengi sana " * int(megabytes * 2**16))
        recipe = first(["eng_Latn"], text=str(tmp_path / "text.txt"))
        assert recipe.only.training["per_device_train_batch_size"] == batch
        (tmp_path / "first.yaml").unlink()


def test_paths_are_those_of_the_recipes_folder(base, texts, tmp_path, monkeypatch) -> None:
    (tmp_path / "recipes").mkdir()
    monkeypatch.chdir(tmp_path)
    pattern = f"{texts['swh_Latn'].name[:3]}*.jsonl"
    lingraft.init("base", ["swh_Latn"], text=pattern, out="recipes/first.yaml")
    written = yaml.safe_load((tmp_path / "recipes/first.yaml").read_text())
    assert (written["base"], written["corpus"][0]["files"]) == ("../base", f"../{pattern}")
    assert load_recipe(tmp_path / "recipes/first.yaml")


def test_layers_are_fitted_to_the_depth_of_the_base(base, tmp_path) -> None:
    lingraft.init(str(base), ["swh_Latn"], goal="comprehension", out=tmp_path / "a.yaml")
    method = yaml.safe_load((tmp_path / "a.yaml").read_text())["method"]
    assert method == {"name": "freeze", "first": 1, "last": 1, "embeddings": True}  # 9 and 6 of 34, for 4 layers


def test_a_base_that_cannot_be_looked_up_gets_the_papers_layers(tmp_path) -> None:
    written = yaml.safe_load(lingraft.init("some/base", ["swh_Latn"], goal="translation", out=tmp_path / "a.yaml"))
    assert (written["method"], written["merge"]) == ({"name": "full"}, [{"revert": {"first": 9, "last": 6}}])


def test_each_family_of_languages_is_a_run_of_its_own(base, texts, tmp_path) -> None:
    learn = ["pol_Latn", "glg_Latn", "por_Latn", "swh_Latn"]
    text = {code: str(texts["swh_Latn"]) for code in learn}
    lingraft.init(str(base), learn, goal="coverage", out=tmp_path / "a.yaml", text=text)
    points = points_of(read_sweep(tmp_path / "a.yaml"), "a.yaml")
    families = [(point.name, point.values["languages.learn"]) for point in points]
    assert families == [("slavic", ["pol_Latn"]), ("romance", ["glg_Latn", "por_Latn"]), ("swh_latn", ["swh_Latn"])]
    check_recipes(tmp_path / "a.yaml", points, [])


def test_one_family_needs_no_experts(base, texts, tmp_path) -> None:
    written = [
        lingraft.init(str(base), ["pol_Latn"], goal=goal, out=tmp_path / f"{goal}.yaml", text=str(texts["swh_Latn"]))
        for goal in ("coverage", "balanced")
    ]
    assert written[0] == written[1]


def test_nothing_is_overwritten(base, tmp_path) -> None:
    (tmp_path / "first.yaml").write_text("mine")
    with pytest.raises(OutputError, match=r"first\.yaml exists"):
        lingraft.init(str(base), ["swh_Latn"], out=tmp_path / "first.yaml")
    assert (tmp_path / "first.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learn": ["swahilli"]}, "'swahilli' is not a language code"),
        ({"learn": []}, "no language to learn"),
        ({"retain": ["swh_Latn"]}, "swh_Latn is named more than once"),
        ({"text": "nowhere.jsonl"}, "no file matches 'nowhere.jsonl'"),
        ({"retain": {"eng_Latn": "nowhere.jsonl"}}, "no file matches 'nowhere.jsonl'"),
        ({"learn": ["swh_Latn", "glg_Latn"], "text": "x.jsonl"}, "of which language.* --text swh_Latn=x.jsonl"),
        ({"text": {"glg_Latn": "x.jsonl"}}, "glg_Latn is not learned"),
        ({"goal": "fame"}, "there is no such goal; goals: balanced, comprehension, translation, coverage"),
    ],
)
def test_wrong_input_is_refused_and_nothing_is_written(base, tmp_path, arguments, message) -> None:
    with pytest.raises(UserError, match=message):
        lingraft.init(**{"base": str(base), "learn": ["swh_Latn"], "out": tmp_path / "first.yaml", **arguments})
    assert not (tmp_path / "first.yaml").exists()
