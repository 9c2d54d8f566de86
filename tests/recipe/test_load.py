from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import yaml

from lingraft.errors import RecipeError
from lingraft.recipe import Recipe, load_recipe, recipe_yaml

BROKEN = {
    "unknown key": (["lerning_rate=1"], "lerning_rate: unknown key; allowed here: base, languages,"),
    "unknown key below": (["method.frist=2"], "method.frist: unknown key (did you mean 'first'?)"),
    "unknown key in a section of a section": (
        ["averaging={pull: {every: 0.1, beta: 0.3, evry: 1}}"],
        "averaging.pull.evry: unknown key (did you mean 'every'?); allowed here: every, beta",
    ),
    "unknown key in a list": (["corpus.0.token=5"], "corpus.0.token: unknown key (did you mean 'tokens'?)"),
    "wrong type": (["max_length=long"], "max_length: should be a valid integer (given: 'long')"),
    "a number written as text": (["method.rank='8'"], "method.rank: should be a valid integer (given: '8')"),
    "too many layers": (["method.first=40"], "first=40 and last=1 are 41 layers, but the model has 4"),
    "no layers": (["method.first=0", "method.last=0"], "selects no layer; the model has 4 layers"),
    "missing file": (["corpus.0.files=nowhere/*.jsonl"], "corpus.0.files.0: no file matches 'nowhere/*.jsonl'"),
    "unknown language": (["languages.learn.0=xxq_Latn"], "languages.learn.0: 'xxq_Latn': ISO 639-3 has no language"),
    "share over 1": (["corpus.0={language: swh_Latn, files: X, share: 1.5}"], "corpus.0.share: should be less than 1"),
    "no text to retain": (["languages.retain.2=fra_Latn"], "evaluation.text.fra_Latn: is missing; fra_Latn is under"),
    "no such method": (
        ["method.name=lyra"],
        "there is no method 'lyra' (did you mean 'layra'?); methods: full, layer-selective",
    ),
    "no method": (["method={rank: 2}"], "method.name: is missing; methods: full, layer-selective"),
    "no base here": (["base=./nowhere"], "base: './nowhere': there is no such folder (looked for /"),
    "no base on the hub": (["base=no-such/model"], "base: 'no-such/model' is not a folder here"),
    "owned argument": (["training.output_dir=x"], "training.output_dir: this argument is not yours to set: use --out"),
    "a sharded model": (["training.fsdp=full_shard"], "training.fsdp: this argument is not yours to set: a sharded"),
    "unknown argument": (["training.lerning_rate=1"], "no such name (did you mean 'learning_rate'?)"),
    "argument of another type": (["training.learning_rate=fast"], "training.learning_rate: should be a valid number"),
    "a word for a switch": (["training.bf16=no"], "training.bf16: should be a valid boolean (given: 'no')"),
    "a number in quotes": (["training.learning_rate='3e-4'"], "training.learning_rate: should be a valid number"),
    "a rate below 0": (["training.learning_rate=-1"], "training.learning_rate: at least 0 and at most 100 (given: -1)"),
    "no such scheduler option": (["training.lr_scheduler_kwargs={foo: 1}"], "training: the Trainer refuses"),
    "no such reporter": (["training.report_to=foo"], "training: the Trainer refuses these settings: foo is not"),
    "an empty batch": (["training.per_device_train_batch_size=0"], "at least 1 and at most 1,000,000 (given: 0)"),
    "a huge seed": (["seed=99999999999"], "seed: should be less than 4294967296"),
    "no files": (["corpus.0.files=[]"], "corpus.0.files: List should have at least 1 item"),
    "the best model": (["training.load_best_model_at_end=true"], "a model is not selected on the text that it is"),
    "one checkpoint": (["training.save_total_limit=1"], "training.save_total_limit: at least 2"),
    "beyond the context": (["max_length=999"], "max_length: 999 is longer than the model's context; at most 64"),
    "two roles": (["languages.observe=[eng_Latn]"], "languages: eng_Latn is named more than once"),
    "text without a role": (["languages.retain=[eng_Latn]"], "evaluation.text.spa_Latn: spa_Latn has no role"),
    "questions without a role": (
        ["evaluation.tasks={cloze: {fra_Latn: FILE}}"],
        "evaluation.tasks.cloze.fra_Latn: the",
    ),
    "no such questions": (["evaluation.tasks={cloze: {eng_Latn: no.jsonl}}"], "no file matches 'no.jsonl'"),
    "nothing to learn from": (["corpus.0.language=eng_Latn"], "corpus: there is no text of swh_Latn"),
    "a stranger trains": (["corpus.1={language: fra_Latn, hub: x}"], "corpus.1.language: fra_Latn is neither learned"),
    "files and hub": (["corpus.0.hub=x"], "corpus.0: give either 'files' or 'hub'"),
    "only shares": (["corpus.0={language: swh_Latn, hub: x, share: 0.5}"], "corpus: every entry has a 'share'"),
    "budget and share": (["corpus.0.share=0.5"], "corpus.0: give either 'tokens' (a budget) or 'share'"),
    "an export that is not there": (
        ["export=gguf"],
        "export: should be 'plain', 'wide-ffn', 'wider', 'deeper', 'qwen2-moe' or 'remote-code' (given: 'gguf')",
    ),
    "an export that the method has not": (["export=remote-code"], "export: 'layra' cannot be written as 'remote-code'"),
    "a plain model of added weights": (
        ["method={name: neutral-residues}", "export=plain"],
        "'neutral-residues' with these settings cannot be written as 'plain'; allowed: remote-code",
    ),
    "a gate's loss without a gate": (["method={name: adapters, loss: ce}"], "gate 'none' is no gate"),
    "a pull on nothing": (
        ["method={name: adapters}", "penalties={l2sp: {first: 1, last: 1}}"],
        "penalties.l2sp: 'adapters' trains no parameter of the base",
    ),
    "a pull on too many layers": (["penalties={l2sp: {}}"], "penalties.l2sp: first=9 and last=6 are 15 layers"),
    "an unknown penalty": (["penalties={l2: {}}"], "penalties.l2: unknown key (did you mean 'l2sp'?)"),
    "an unknown setting of a penalty": (["penalties={l2sp: {frist: 1}}"], "unknown key (did you mean 'first'?)"),
    "an unknown layer group": (
        ["penalties={l2sp: {first: 1, last: 1, weight: {midle: 1}}}"],
        "there is no layer group 'midle' (did you mean 'middle'?)",
    ),
    "a negative pull": (
        ["penalties={l2sp: {first: 1, last: 1, weight: {middle: -1}}}"],
        "greater than or equal to 0",
    ),
    "an unknown kind of replay": (["replay={self_generated: 0.2, loss: mse}"], "replay.loss: should be 'kl' or 'ce'"),
    "replay of nothing": (["replay={loss: kl}"], "replay.self_generated: is missing"),
    "stopping without evaluations": (
        ["early_stopping={patience: 2}", "training.eval_strategy=no"],
        "early_stopping: needs evaluations",
    ),
    "a limit after another step": (
        ["merge=[{scale: 0.5}, {max_forgetting: 0.01}]"],
        "max_forgetting is of what training wrote; put it first",
    ),
    "two limits": (
        ["merge=[{max_forgetting: 0.01}, {max_forgetting: 0.2}]"],
        "max_forgetting is of what training wrote; put it first, and only once",
    ),
    "a limit on layers that are not there": (
        ["merge=[{max_forgetting: 0.01, first: 100}]"],
        "first=100",
    ),
    "a selection share without a selection split": (
        ["validation.selection_share=0.3"],
        "validation.selection_share: nothing uses a selection split",
    ),
    "two sizes": (
        ["method={name: adapters, rank: 4, extra_parameters: 0.2}"],
        "give either 'rank' or 'extra_parameters', from which the rank is solved",
    ),
    "a distribution that is not kept": (["replay={self_generated: 0.2, loss: ce, top_k: 9}"], "'top_k' is of loss kl"),
    "a limit of nothing": (["merge=[{max_forgetting: 0}]"], "should be greater than 0"),
    "steps after added weights": (
        ["method={name: adapters}", "merge=[{scale: 0.5}]"],
        "merge: 'adapters' adds weights that the base does not have",
    ),
    "a tag": (["seed=!!python/object/apply:os.getcwd []"], "are not allowed, write plain values"),
}


@pytest.mark.parametrize(("overrides", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_recipe_is_one_problem_with_its_place_and_the_way_out(recipe, overrides, message) -> None:
    file = recipe["corpus"][0]["files"]
    overrides = [o.replace("files: X", f"files: {file}").replace("FILE", file) for o in overrides]
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, overrides)
    assert len(caught.value.problems) == 1
    assert message in str(caught.value)


def test_a_quantized_base_is_refused(recipe, base) -> None:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(RecipeError, match="base: quantized weights cannot be trained"):
        load_recipe(recipe)


def test_all_problems_of_form_are_reported_at_once(recipe) -> None:
    broken = ["method.rank=0", "max_length=long", "corpus.0.tokens=-1", "nothing=1"]
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, broken)
    assert len(caught.value.problems) == 4


def test_all_problems_of_fit_are_reported_at_once(recipe) -> None:
    broken = ["method.first=40", "max_length=999", "languages.observe=[fra_Latn]", "training.do_eval=true"]
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, broken)
    assert len(caught.value.problems) == 4


def test_a_resolved_recipe_says_everything_and_resolves_to_itself(recipe) -> None:
    resolved = load_recipe(recipe)
    again = load_recipe(yaml.safe_load(recipe_yaml(resolved)))
    assert recipe_yaml(again) == recipe_yaml(resolved)
    assert resolved.only.training["adam_beta2"] == 0.95  # the paper's, filled in
    assert resolved.only.training["learning_rate"] == 3e-3  # the recipe's, kept


def test_max_length_defaults_to_the_models_context(recipe) -> None:
    del recipe["max_length"]
    assert load_recipe(recipe).max_length == 64


def test_relative_paths_become_absolute(recipe, texts, monkeypatch) -> None:
    folder = texts["swh_Latn"].parent
    monkeypatch.chdir(folder)
    recipe["corpus"][0]["files"] = "swh*.jsonl"
    recipe["base"] = "base"
    resolved = load_recipe(recipe)
    assert resolved.only.corpus[0].files == [str(folder / "swh*.jsonl")]
    assert resolved.base == str(folder / "base")


def test_overrides_win_over_the_file(recipe) -> None:
    assert load_recipe(recipe, ["method.rank=3", "training.learning_rate=2e-5"]).only.method.rank == 3


SHIPPED = sorted((Path(__file__).parents[2] / "recipes").rglob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_well_formed(path, texts, monkeypatch) -> None:
    """Its base and its text are elsewhere, so the form is checked and the method against any depth."""
    monkeypatch.chdir(texts["swh_Latn"].parent)
    values = copy.deepcopy(yaml.safe_load(path.read_text()))
    values["evaluation"]["text"] = {code: str(texts["eng_Latn"]) for code in values["evaluation"]["text"]}
    for stage in values.get("stages", {}).values():
        for entry in [*stage.get("corpus", []), *stage.get("instructions", [])]:
            entry |= {"files": str(texts["eng_Latn"])} if "files" in entry else {}
    parsed = Recipe.model_validate(values)
    assert all(stage.method.layers(32).depth == 32 for stage in parsed.stages.values())
    assert len(parsed.merge) == len(values.get("merge", []))


def test_there_are_shipped_recipes() -> None:
    assert SHIPPED
