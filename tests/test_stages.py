"""Runs of several stages: new words, pairs, text, instructions; each starts from what the one before left."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import lingraft
from command_line import Command, command, two_processes
from lingraft.corpus.read import read_texts
from lingraft.corpus.tokenize import open_table
from lingraft.errors import ModelError, RecipeError
from lingraft.pipeline.plan import whole_plan
from lingraft.pipeline.run_directory import check_output
from lingraft.recipe import load_recipe, recipe_yaml

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("stages")]  # one run serves many tests

ENGLISH, SWAHILI = "people house water fire book", "watu nyumba maji moto kitabu"
INSTRUCT = {"name": "lora", "rank": 2}


def write_pairs(folder: Path) -> Path:
    """120 pairs: three words in English, and the same in Swahili."""
    words = list(zip(ENGLISH.split(), SWAHILI.split(), strict=True))
    rows = [[words[(i // 5**place) % 5] for place in range(3)] for i in range(120)]
    path = folder / "pairs.jsonl"
    sides = ({"eng": " ".join(one for one, _ in row), "swh": " ".join(two for _, two in row)} for row in rows)
    path.write_text("".join(json.dumps(of) + "\n" for of in sides))
    return path


def write_instructions(folder: Path) -> dict[str, Path]:
    """Both forms, one a language."""
    english = [{"instruction": "say", "input": word, "output": word} for word in ENGLISH.split() * 4]
    swahili = [
        {"messages": [{"role": "user", "content": f"sema {word}"}, {"role": "assistant", "content": word}]}
        for word in SWAHILI.split() * 4
    ]
    paths = {}
    for code, records in {"eng_Latn": english, "swh_Latn": swahili}.items():
        numbered = ({**record, "id": i} for i, record in enumerate(records))
        paths[code] = folder / f"instructions-{code}.jsonl"
        paths[code].write_text("".join(json.dumps(record) + "\n" for record in numbered))
    return paths


@pytest.fixture
def pairs(tmp_path) -> Path:
    return write_pairs(tmp_path)


@pytest.fixture
def instructions(tmp_path) -> dict[str, Path]:
    return write_instructions(tmp_path)


@pytest.fixture
def staged(recipe, pairs, instructions) -> dict[str, Any]:
    return staged_of(recipe, pairs, instructions)


class Finished(NamedTuple):
    """A run of all stages that tests look at and leave as it is."""

    recipe: dict[str, Any]
    out: Path
    results: dict[str, Any]


@pytest.fixture(scope="module")
def done(shared_recipe, tmp_path_factory) -> Finished:
    folder = tmp_path_factory.mktemp("done")
    recipe = staged_of(shared_recipe, write_pairs(folder), write_instructions(folder))
    return Finished(recipe, folder / "out", lingraft.run(recipe, folder / "out"))


def staged_of(recipe: dict[str, Any], pairs: Path, instructions: dict[str, Path]) -> dict[str, Any]:
    """All that there is: new words, pairs, text, instructions."""
    settings = recipe["training"] | {"max_steps": 6}
    around = {key: recipe[key] for key in ("base", "languages", "validation", "evaluation")}
    return {
        **around,
        "max_length": 48,
        "vocabulary": {"new_tokens": 30},
        "stages": {
            "align": {
                "corpus": [{"parallel": {"eng_Latn": "eng", "swh_Latn": "swh"}, "files": str(pairs)}],
                "method": {"name": "embeddings"},
                "training": dict(settings),
            },
            "adapt": {
                "corpus": recipe["corpus"],
                "method": {"name": "lora", "rank": 2, "embeddings": True},
                "training": dict(settings),
            },
            "instruct": {
                "instructions": [{"language": code, "files": str(path)} for code, path in instructions.items()],
                "method": INSTRUCT,
                "training": settings,
            },
        },
    }


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.float().eval()(torch.arange(40)[None]).logits


def stage_folder(out: Path, name: str) -> Path:
    return out / "work" / f"stage-{name}"


def test_each_stage_says_what_it_made_of_every_language(done) -> None:
    _, out, results = done
    names = ["new tokens", "align", "adapt", "instruct"]
    assert [step["name"] for step in results["stages"]] == names
    last = results["stages"][-1]
    for code, entry in results["languages"].items():
        assert last["languages"][code] == pytest.approx(entry["bits_per_byte"]["after"], abs=0.02)  # bf16
    origin = json.loads((out / "lingraft.json").read_text())
    assert [stage["method"]["name"] for stage in origin["stages"]] == ["embeddings", "lora", "lora"]
    assert [stage["name"] for stage in origin["stages"]] == names[1:]
    assert origin["vocabulary"]["tokens"] == 288  # 256 bytes, BOS and EOS, 30 new
    log = json.loads((out / "training.json").read_text())
    assert [(stage["name"], stage["kind"]) for stage in log["stages"]] == [
        ("align", "text"),
        ("adapt", "text"),
        ("instruct", "instructions"),
    ]
    assert results["fertility"]["after"]["swh_Latn"]["tokens"] < results["fertility"]["before"]["swh_Latn"]["tokens"]


def test_finished_stages_are_kept(done) -> None:
    times = {path: path.stat().st_mtime_ns for path in (done.out / "work").rglob("*") if path.is_file()}
    assert lingraft.run(done.recipe, done.out) == done.results
    assert {path: path.stat().st_mtime_ns for path in (done.out / "work").rglob("*") if path.is_file()} == times


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_every_model_on_the_way_is_what_it_was_made_to_be(staged, base, make_model, tmp_path, tied) -> None:
    """With plain transformers and peft: rows of old tokens at first, a tied head all the way, merged as the adapter is.

    The base has 320 rows, a multiple of 64, for 258 tokens: none is cut.
    """
    make_model(tied=tied, vocab_size=320).to(torch.bfloat16).save_pretrained(base)
    staged["stages"]["adapt"]["method"]["dropout"] = 0.0
    out = tmp_path / "out"
    lingraft.run(staged, out)
    before = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    extended = AutoModelForCausalLM.from_pretrained(out / "work/extended/model", dtype=torch.float32)
    torch.testing.assert_close(logits(extended)[..., :258], logits(before)[..., :258], atol=1e-5, rtol=0)
    models = {
        name: AutoModelForCausalLM.from_pretrained(stage_folder(out, name) / "adapted/model")
        for name in ("align", "adapt", "instruct")
    }
    models["result"] = AutoModelForCausalLM.from_pretrained(out / "model")
    for model in (extended, *models.values()):
        assert model.get_input_embeddings().weight.shape[0] == 320
        assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied
        assert all(weight.isfinite().all() for weight in model.parameters())
    for name, earlier in (("adapt", "align"), ("instruct", "adapt")):
        start = AutoModelForCausalLM.from_pretrained(stage_folder(out, earlier) / "adapted/model")
        beside = PeftModel.from_pretrained(start, stage_folder(out, name) / "adapted/adapter")
        torch.testing.assert_close(logits(beside), logits(models[name]), atol=1e-4, rtol=0)
    torch.testing.assert_close(logits(models["result"]), logits(models["instruct"]), atol=0.15, rtol=0.05)


def test_layers_stay_as_they_are_while_new_words_are_aligned(done) -> None:
    out = done.out
    before, after = (
        load_file(folder / "model.safetensors")
        for folder in (out / "work/extended/model", stage_folder(out, "align") / "adapted/model")
    )
    moved = {name for name, weight in before.items() if not torch.equal(weight.float(), after[name])}
    assert moved == {"model.embed_tokens.weight", "lm_head.weight"}


def test_pairs_train_in_both_orders_and_each_token_knows_its_language(done) -> None:
    out = done.out
    table = open_table(stage_folder(out, "align") / "corpus-in-new-tokens-0/documents.arrow")
    tokenizer = AutoTokenizer.from_pretrained(out / "model")
    row, other = table[2], table[3]
    assert row["text"].split("\n") == other["text"].split("\n")[::-1]
    sides = {
        side: tokenizer.decode([i for i, of in zip(row["input_ids"], row["sides"], strict=True) if of == side])
        for side in (0, 1)
    }
    assert sides[0].removeprefix("<bos>").strip() == row["text"].split("\n")[0]
    assert sides[1].removesuffix("<eos>").strip() == row["text"].split("\n")[1]
    assert other["sides"][0] == 1
    blocks = open_table(stage_folder(out, "align") / "blocks/training.arrow")
    swahili = set(tokenizer(" ".join(SWAHILI.split())).input_ids) - set(tokenizer(ENGLISH).input_ids)
    marked = {
        of
        for block in blocks
        for i, of in zip(block["input_ids"], block["languages"], strict=True)
        if i in swahili and i >= 258
    }
    assert marked == {0}  # the learned language comes first


def test_pairs_come_from_a_dataset_on_the_hub_as_far_as_they_are_needed(staged, tmp_path) -> None:
    """A folder in the place of the hub, with records as OPUS has them."""
    hub = tmp_path / "opus"
    hub.mkdir()
    records = ({"translation": {"en": f"house {i}", "sw": f"nyumba {i}"}} for i in range(3000))
    (hub / "train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    fields = {"eng_Latn": "translation.en", "swh_Latn": "translation.sw"}
    staged["stages"]["align"]["corpus"] = [{"parallel": fields, "hub": str(hub), "tokens": 2000}]
    del staged["stages"]["instruct"]
    out = tmp_path / "out"
    lingraft.run(staged, out)
    assert json.loads((out / "lingraft.json").read_text())["stages"][0]["corpus"][0]["tokens"] == 2000
    read = open_table(stage_folder(out, "align") / "corpus-in-new-tokens-0/documents.arrow")
    assert read.num_rows == 2 * 512  # one batch of 3,000 pairs


def test_a_pair_with_a_measured_side_never_trains(staged, pairs, texts, tmp_path) -> None:
    measured = json.loads(pairs.read_text().splitlines()[7])["eng"]
    with texts["eng_Latn"].open("a") as file:
        file.write(json.dumps({"text": measured}) + "\n")
    out = tmp_path / "out"
    lingraft.run(staged, out)
    origin = json.loads((out / "lingraft.json").read_text())
    assert origin["stages"][0]["corpus"][0]["kept_out"] == 2  # in both orders


@pytest.mark.parametrize("measured", [True, False])
def test_words_are_learned_on_text_that_is_not_measured(staged, texts, tmp_path, measured) -> None:
    """A word that stands in measured documents alone, however often, becomes no token."""
    lines = [json.dumps({"text": " ".join(f"zzqx {100 * i + j}" for j in range(40))}) + "\n" for i in range(30)]
    with texts["swh_Latn"].open("a") as file:
        file.writelines(lines)
    if measured:
        (tmp_path / "measured.jsonl").write_text("".join(lines))
        staged["evaluation"]["text"]["swh_Latn"] = str(tmp_path / "measured.jsonl")
    staged["stages"] = {"align": staged["stages"]["align"], "adapt": staged["stages"]["adapt"]}
    lingraft.run(staged, tmp_path / "out")
    tokens = AutoTokenizer.from_pretrained(tmp_path / "out/model").get_vocab()
    assert any("zzq" in token for token in tokens) != measured


def test_the_same_documents_are_held_out_with_new_words_and_without(done, tmp_path) -> None:
    without = {key: value for key, value in done.recipe.items() if key != "vocabulary"}
    results = lingraft.run(without, tmp_path / "out")
    held = [read_texts(out / "work/split/held-out-swh_Latn.jsonl") for out in (done.out, tmp_path / "out")]
    assert held[0] == held[1]
    assert "after" not in results["fertility"]


def test_text_that_two_stages_train_on_is_held_out_as_that_of_one(recipe, tmp_path) -> None:
    recipe["validation"]["max_tokens"] = 200
    recipe["training"]["max_steps"] = 1
    lingraft.run(recipe, tmp_path / "one")
    training = {key: recipe.pop(key) for key in ("corpus", "method", "training")}
    lingraft.run({**recipe, "stages": {"one": training, "two": training}}, tmp_path / "two")
    held = [read_texts(tmp_path / name / "work/split/held-out-swh_Latn.jsonl") for name in ("one", "two")]
    assert held[0] == held[1]


def test_one_stage_of_a_recipe_is_the_recipe_of_one_training(recipe, tmp_path) -> None:
    recipe["training"]["max_steps"] = 4
    alone = lingraft.run(recipe, tmp_path / "alone")
    training = {key: recipe.pop(key) for key in ("corpus", "method", "training")}
    staged = lingraft.run({**recipe, "stages": {"only": training}}, tmp_path / "staged")
    assert staged["languages"] == alone["languages"]
    models = [(tmp_path / name / "model/model.safetensors").read_bytes() for name in ("alone", "staged")]
    assert models[0] == models[1]


def test_steps_after_a_stage_start_from_what_the_stage_started_from(recipe, tmp_path) -> None:
    """LayRA-series in one recipe: M1 + 0.5 (theta_2 - M1) (arXiv 2509.11414 eq. 2)."""
    training = {key: recipe.pop(key) for key in ("corpus", "method", "training")}
    training["training"]["max_steps"] = 4
    stages = {"one": training, "two": {**training, "merge": [{"scale": 0.5}]}}
    out = tmp_path / "out"
    lingraft.run({**recipe, "stages": stages}, out)
    first, trained, combined = (
        load_file(stage_folder(out, name) / "model/model.safetensors")
        for name in ("one/adapted", "two/adapted", "two/combined")
    )
    for name, weight in combined.items():
        torch.testing.assert_close(weight, first[name] + 0.5 * (trained[name] - first[name]))


def test_an_instruct_model_learns_new_words_and_all(staged, base, make_model, tokenizer, tmp_path) -> None:
    """I + 0.7 (theta - theta_0), where I does not know the new words (arXiv 2509.11414 eq. 4)."""
    other = tmp_path / "instruct"
    make_model().to(torch.bfloat16).save_pretrained(other)
    tokenizer.save_pretrained(other)
    del staged["stages"]["instruct"]
    staged["merge"] = [{"revert": {"first": 1, "last": 1}}, {"instruct": str(other), "scale": 0.7}]
    out = tmp_path / "out"
    results = lingraft.run(staged, out)
    model = AutoModelForCausalLM.from_pretrained(out / "model", dtype=torch.float32)
    assert len(AutoTokenizer.from_pretrained(out / "model")) == 288
    assert logits(model).isfinite().all()
    start, adapted, instruct = (
        load_file(folder / "model.safetensors")
        for folder in (out / "work/extended/model", stage_folder(out, "adapt") / "adapted/model", other)
    )
    made = load_file(out / "work/combined/model/model.safetensors")
    rows = [weights["model.embed_tokens.weight"].float() for weights in (made, instruct, adapted, start)]
    made_rows, of_instruct, of_adapted, of_start = rows
    wanted = of_instruct[:258] + 0.7 * (of_adapted - of_start)[:258]
    torch.testing.assert_close(made_rows[:258], wanted, atol=1e-5, rtol=1e-5)
    assert made_rows[258:288].abs().sum(1).all()
    middle = "model.layers.2.mlp.up_proj.weight"
    torch.testing.assert_close(made[middle], instruct[middle].float(), atol=1e-6, rtol=0)
    assert results["instruct"]["base"] == other.name


def test_a_vector_of_another_run_is_of_the_base_without_new_words(
    staged, base, make_model, tokenizer, tmp_path
) -> None:
    """The result is theta + 0.5 (other - theta_0), where the other knows no new word."""
    other = tmp_path / "other"
    model = make_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.25)
    model.to(torch.bfloat16).save_pretrained(other)
    tokenizer.save_pretrained(other)
    staged["stages"] = {"adapt": staged["stages"]["adapt"]}
    staged["merge"] = [{"vectors": {str(other): 0.5}}]
    out = tmp_path / "out"
    lingraft.run(staged, out)
    made, trained, of_other, of_base = (
        load_file(folder / "model.safetensors")
        for folder in (out / "work/combined/model", stage_folder(out, "adapt") / "adapted/model", other, base)
    )
    for name, weight in of_base.items():
        rows = len(weight)
        wanted = trained[name][:rows] + 0.5 * (of_other[name].float() - weight.float())
        torch.testing.assert_close(made[name][:rows], wanted, atol=1e-5, rtol=1e-5)


def test_what_cannot_be_combined_is_said_before_anything_trains(staged, make_model, tokenizer, tmp_path) -> None:
    """An instruct model with a token of its own, and a base with new tokens: no tokenizer knows all."""
    other = tmp_path / "instruct"
    make_model(vocab_size=259).save_pretrained(other)
    tokenizer.save_pretrained(other)
    own = AutoTokenizer.from_pretrained(other)
    own.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    own.save_pretrained(other)
    del staged["stages"]["instruct"]
    staged["merge"] = [{"instruct": str(other), "scale": 0.7}]
    with pytest.raises(ModelError, match="knows all tokens"):
        lingraft.run(staged, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_adapter_on_the_way_names_what_it_is_of(done) -> None:
    config = json.loads((stage_folder(done.out, "adapt") / "adapted/adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "adapted"


def test_text_that_two_files_share_is_held_out_as_that_of_one(recipe, texts, tmp_path) -> None:
    recipe["validation"]["max_tokens"] = 400
    recipe["training"]["max_steps"] = 1
    more = tmp_path / "more.jsonl"
    more.write_text("".join(texts["swh_Latn"].read_text().splitlines(keepends=True)[:60]))
    lingraft.run(recipe, tmp_path / "one")
    training = {key: recipe.pop(key) for key in ("corpus", "method", "training")}
    other = {**training, "corpus": [{"language": "swh_Latn", "files": str(more)}]}
    lingraft.run({**recipe, "stages": {"one": training, "two": other}}, tmp_path / "two")
    held = [read_texts(tmp_path / name / "work/split/held-out-swh_Latn.jsonl") for name in ("one", "two")]
    assert set(held[0]) == set(held[1])


def test_pairs_that_change_leave_earlier_stages_as_they_are(staged, pairs, tmp_path) -> None:
    stages = staged["stages"]
    staged["stages"] = {"adapt": stages["adapt"], "align": stages["align"]}
    out = tmp_path / "out"
    lingraft.run(staged, out)
    trained = {name: stage_folder(out, name) / "adapted/model/model.safetensors" for name in staged["stages"]}
    before = {name: path.stat().st_mtime_ns for name, path in trained.items()}
    with pairs.open("a") as file:
        file.write('{"eng": "moon fish", "swh": "mwezi samaki"}\n')
    lingraft.run(staged, out)
    assert {name for name, path in trained.items() if path.stat().st_mtime_ns != before[name]} == {"align"}


def test_another_order_of_stages_is_a_change_of_the_recipe(done, caplog) -> None:
    other = {**done.recipe, "stages": dict(sorted(done.recipe["stages"].items()))}
    with caplog.at_level("INFO"):
        check_output(done.out, load_recipe(other))
    assert "stages: in the order align, adapt, instruct there, adapt, align" in caplog.text


def test_what_differs_from_an_earlier_recipe_is_named_key_by_key(done, caplog) -> None:
    with caplog.at_level("INFO"):
        check_output(done.out, load_recipe(done.recipe, ["stages.adapt.training.learning_rate=1e-3"]))
    assert "(stages.adapt.training.learning_rate: 0.003 there, 0.001 here)" in caplog.text


def test_the_same_conversation_is_not_looked_at_and_learned(staged, instructions, tmp_path) -> None:
    entries = staged["stages"]["instruct"]["instructions"]
    entries.append({"language": "swh_Latn", "files": str(instructions["swh_Latn"])})
    staged["validation"]["share"] = 0.3
    out = tmp_path / "out"
    lingraft.run(staged, out)
    blocks = stage_folder(out, "instruct") / "instructions"
    looked_at = set((blocks / "validation-swh_Latn.jsonl").read_text().splitlines())
    assert looked_at
    assert not looked_at & set((blocks / "training.jsonl").read_text().splitlines())


def test_a_later_stage_of_instructions_keeps_the_template(staged, tmp_path) -> None:
    template = tmp_path / "template.jinja"
    template.write_text("{% for m in messages %}{{ m.role + ': ' + m.content + eos_token }}{% endfor %}")
    instruct = staged["stages"]["instruct"]
    staged["stages"] = {
        "adapt": staged["stages"]["adapt"],
        "one": {**instruct, "chat_template": str(template)},
        "two": instruct,
    }
    lingraft.run(staged, tmp_path / "out")
    assert (tmp_path / "out/model/chat_template.jinja").read_text() == template.read_text()


def test_a_limit_on_forgetting_holds_over_all_stages(staged, tmp_path) -> None:
    """Each factor is of the way from the base with new tokens to the last stage's model."""
    del staged["stages"]["instruct"]
    staged["merge"] = [{"max_forgetting": 0.5, "first": 1, "last": 1}]
    out = tmp_path / "out"
    results = lingraft.run(staged, out)
    assert results["max_forgetting"]["chosen"]["at_most"] <= 0.5
    assert (out / "model/model.safetensors").exists()


def test_a_run_killed_in_its_stages_ends_with_the_same_model(staged, tmp_path) -> None:
    """In the first by itself, then in the last."""
    for stage in staged["stages"].values():
        stage["training"] = stage["training"] | {"max_steps": 6, "save_steps": 3}
    path, straight, killed = tmp_path / "recipe.yaml", tmp_path / "straight", tmp_path / "killed"
    path.write_text(yaml.safe_dump(staged, sort_keys=False))
    command("run", path, "--out", straight)
    for within in ("align", "instruct"):
        started, deadline = Command("run", path, "--out", killed), time.monotonic() + 150
        while not list(killed.glob(f"work/stage-{within}/training-*/checkpoint-*/finished.json")):
            assert time.monotonic() < deadline, "no checkpoint"
            time.sleep(0.01)
        started.send(signal.SIGKILL)
        code, _, said = started.end()
        assert code == -signal.SIGKILL
        assert ("resuming from" in said) == (within == "instruct")
        assert not (killed / "model").exists()
    _, said = command("run", path, "--out", killed)
    assert "resuming from" in said
    assert (killed / "model/model.safetensors").read_bytes() == (straight / "model/model.safetensors").read_bytes()


def test_a_resolved_recipe_of_stages_resolves_to_itself(staged, tmp_path) -> None:
    resolved = load_recipe(staged)
    again = load_recipe(yaml.safe_load(recipe_yaml(resolved)))
    assert recipe_yaml(again) == recipe_yaml(resolved)
    assert resolved.stages["align"].training["adam_beta2"] == 0.95
    check_output(tmp_path / "new", resolved)


def test_the_plan_goes_stage_by_stage(staged) -> None:
    plan = whole_plan(load_recipe(staged))
    assert [line.split()[1] for line in plan.splitlines() if line.startswith("stage ")] == list(staged["stages"])
    assert "corpus.0 eng_Latn–swh_Latn" in plan
    assert "instructions.1 swh_Latn" in plan
    assert "30 new ones" in plan


BROKEN = {
    "an unknown key of a stage": (["stages.adapt.metod=1"], "stages.adapt.metod: unknown key (did you mean 'method'?)"),
    "an unknown key of its method": (
        ["stages.adapt.method.rnak=1"],
        "stages.adapt.method.rnak: unknown key (did you mean 'rank'?)",
    ),
    "no such method": (["stages.adapt.method.name=lorra"], "stages.adapt.method.name: there is no method 'lorra'"),
    "a method beside stages": (["method={name: full}"], "stages: each stage has its own method; move what stands"),
    "too many layers": (
        ["stages.adapt.method={name: layra, first: 9, last: 9}"],
        "stages.adapt.method: first=9 and last=9 are 18 layers",
    ),
    "an argument of another type": (
        ["stages.align.training.learning_rate=fast"],
        "stages.align.training.learning_rate: should be a valid number",
    ),
    "a strange name": (["stages={'A stage': {method: {name: full}}}"], "stages: 'A stage' cannot be the name"),
    "no text": (["stages.align.corpus=[]"], "stages.align.corpus: is missing; give text to train on"),
    "corpus and instructions": (
        ["stages.instruct.corpus=[{language: swh_Latn, files: FILE}]"],
        "stages.instruct.instructions: give either 'corpus' or 'instructions'",
    ),
    "a stranger's instructions": (
        ["stages.instruct.instructions.0.language=fra_Latn"],
        "stages.instruct.instructions.0.language: fra_Latn is neither learned nor retained",
    ),
    "a stranger in pairs": (
        ["stages.align.corpus.0.parallel={fra_Latn: eng, swh_Latn: swh}"],
        "stages.align.corpus.0.parallel: fra_Latn is neither learned nor retained",
    ),
    "pairs in one language": (["stages.align.corpus.0.parallel={swh_Latn: swh}"], "at least 2 items"),
    "pairs and a language": (["stages.align.corpus.0.language=eng_Latn"], "give either 'language' or, for pairs"),
    "replay of instructions": (["stages.instruct.replay={self_generated: 0.2}"], "stages.instruct.replay: is of text"),
    "added weights on instructions": (
        ["stages.instruct.method={name: adapters}"],
        "stages.instruct.method: 'adapters' adds weights",
    ),
    "added weights on the way": (
        ["stages.adapt.method={name: adapters}"],
        "stages.adapt.method: 'adapters' adds weights, which cannot be handed on",
    ),
    "a template of nothing": (["stages.adapt.chat_template=FILE"], "stages.adapt.chat_template: is of 'instructions'"),
    "a limit within a stage": (["stages.adapt.merge=[{max_forgetting: 0.1}]"], "put it under 'merge', beside 'stages'"),
    "an instruct model within a stage": (
        ["stages.adapt.merge=[{instruct: BASE, scale: 1}]"],
        "has no part in a stage, which hands its own model on",
    ),
    "steps after added weights": (
        ["stages.instruct={corpus: [{language: swh_Latn, hub: x}], method: {name: adapters}, merge: [{scale: 1}]}"],
        "stages.instruct.merge: 'adapters' adds weights that the base does not have",
    ),
    "one field for two languages": (
        ["stages.align.corpus.0.parallel={eng_Latn: eng, swh_Latn: eng}"],
        "stages.align.corpus.0: 'parallel' names the same field for both languages",
    ),
    "no epochs": (
        ["stages.align.training.num_train_epochs=0"],
        "num_train_epochs: more than 0 and at most 1,000,000 (given: 0)",
    ),
    "an unknown init": (["vocabulary.init=middle"], "vocabulary.init: should be 'mean', 'subtoken-mean'"),
}


@pytest.mark.parametrize(("overrides", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_recipe_of_stages_is_one_problem_with_its_place(staged, overrides, message) -> None:
    file = staged["stages"]["adapt"]["corpus"][0]["files"]
    overrides = [of.replace("FILE", file).replace("BASE", staged["base"]) for of in overrides]
    with pytest.raises(RecipeError) as caught:
        load_recipe(staged, overrides)
    assert len(caught.value.problems) == 1
    assert message in str(caught.value)


def test_pairs_alone_are_no_text_to_measure_on_or_learn_words_from(staged) -> None:
    del staged["stages"]["adapt"]
    with pytest.raises(RecipeError) as caught:
        load_recipe(staged)
    problems = " ".join(caught.value.problems)
    assert "evaluation.text.swh_Latn: is missing; swh_Latn has only pairs or instructions" in problems
    assert "vocabulary: there is no corpus of swh_Latn alone" in problems


def test_a_chat_template_that_is_not_there_is_named(staged, tmp_path) -> None:
    staged["stages"] = {"instruct": staged["stages"]["instruct"] | {"chat_template": str(tmp_path / "no-such")}}
    staged["evaluation"]["text"]["swh_Latn"] = staged["evaluation"]["text"]["eng_Latn"]
    del staged["vocabulary"]
    with pytest.raises((ModelError, RecipeError), match="no-such"):
        lingraft.run(staged, tmp_path / "out")


def test_two_processes_go_through_all_stages_as_one_does(staged, tmp_path) -> None:
    for stage in staged["stages"].values():
        stage["training"] |= {"use_cpu": True, "max_steps": 2}
        stage["method"] |= {"dropout": 0.0} if stage["method"]["name"] == "lora" else {}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(staged, sort_keys=False))
    halves = [f"stages.{name}.training.per_device_train_batch_size=2" for name in staged["stages"]]
    gloo = [f"stages.{name}.training.ddp_backend=gloo" for name in staged["stages"]]
    two_processes("run", path, *halves, *gloo, "--out", tmp_path / "two")
    one = lingraft.run(path, tmp_path / "one")
    two = json.loads((tmp_path / "two" / "results.json").read_text())
    for step, other in zip(one["stages"], two["stages"], strict=True):
        assert other["learning"] == pytest.approx(step["learning"], rel=2e-3)
