"""The main job from a recipe to a folder, on a tiny base."""

from __future__ import annotations

import gzip
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import lingraft
from command_line import Command, command
from lingraft.corpus.read import read_texts
from lingraft.corpus.sources.hub import hub_revision
from lingraft.corpus.tokenize import open_table
from lingraft.evaluation import NUM_SAMPLES
from lingraft.schema import Origin, Results, Training

pytestmark = pytest.mark.integration

PROBE = torch.arange(40)[None]


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(PROBE).logits.float()


def test_a_run_learns_and_leaves_all_that_it_promises(recipe, tmp_path) -> None:
    out = tmp_path / "out"
    results = lingraft.run(recipe, out)
    written = {path.name for path in out.iterdir()} - {"work", ".lock", ".published.json"}
    assert written == {
        "adapter",
        "lingraft.json",
        "model",
        "recipe.resolved.yaml",
        "report.html",
        "results.json",
        "training.json",
    }
    assert json.loads((out / "results.json").read_text()) == results
    swahili = results["languages"]["swh_Latn"]
    assert swahili["role"] == "learn"
    assert swahili["bits_per_byte"]["after"] < 0.8 * swahili["bits_per_byte"]["before"]
    assert swahili["bits_per_byte"]["ci95"][1] < 0
    assert results["learning"] > 0.2
    assert {code: entry["role"] for code, entry in results["languages"].items()} == {
        "swh_Latn": "learn",
        "eng_Latn": "retain",
        "spa_Latn": "retain",
    }

    # A plain model: the adapter on the base computes the same, up to the export's rounding to bf16.
    model = AutoModelForCausalLM.from_pretrained(out / "model", dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(recipe["base"], dtype=torch.float32)
    adapter = PeftModel.from_pretrained(base, out / "adapter")
    torch.testing.assert_close(logits(model), logits(adapter), atol=0.15, rtol=0.05)
    assert AutoTokenizer.from_pretrained(out / "model")("maji").input_ids
    stored = load_file(out / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}

    # The middle layer is the base's, bit for bit.
    original = load_file(Path(recipe["base"]) / "model.safetensors")
    assert stored.keys() == original.keys()
    same = {name for name in stored if torch.equal(stored[name], original[name])}
    assert {name for name in stored if ".layers.2." in name} <= same
    assert "lm_head.weight" not in same

    # What was held out never trained.
    blocks = open_table(out / "work" / "blocks" / "training.arrow")
    trained = bytes_of(blocks)
    held_out = read_texts(out / "work" / "split" / "held-out-swh_Latn.jsonl")
    assert held_out
    assert all(text.encode() not in trained for text in held_out)


def test_the_models_of_the_files_know_every_key_that_a_run_writes(recipe, tmp_path) -> None:
    """What a model does not know would not be written, or not be drawn."""
    recipe["training"]["max_steps"] = 1
    recipe["replay"] = {"self_generated": 0.2}
    recipe["vocabulary"] = {"new_tokens": 5}
    recipe["merge"] = [{"max_forgetting": 0.5}, {"scale": 0.9}]
    lingraft.run(recipe, tmp_path / "out")
    for name, model in {"results": Results, "lingraft": Origin, "training": Training}.items():
        written = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        assert json.loads(json.dumps(model.model_validate(written).to_json())) == written


def test_questions_and_samples_are_measured_as_evaluate_measures_them(recipe, texts, tmp_path) -> None:
    lines = [
        {"context": "watu nyumba", "choices": [" maji", " qqqq"], "answer": 0},
        {"context": "house water", "choices": [" zzzz", " fire"], "answer": 1},
        {"context": "casa agua", "choices": [" xxxx", " fuego"], "answer": 0},
    ]
    questions = tmp_path / "questions.jsonl"
    questions.write_text("\n".join(map(json.dumps, lines)))
    tasks = {"likely": {code: str(questions) for code in ("swh_Latn", "eng_Latn")}}
    recipe["evaluation"] |= {"tasks": tasks, "num_samples": NUM_SAMPLES}
    results = lingraft.run(recipe, tmp_path / "out")
    assert results["tasks"]["likely"]["languages"]["swh_Latn"]["role"] == "learn"
    assert results["tasks"]["likely"]["languages"]["swh_Latn"]["score"]["after"] == pytest.approx(2 / 3)
    held_out = tmp_path / "out" / "work" / "split" / "held-out-swh_Latn.jsonl"
    again = lingraft.evaluate(
        str(tmp_path / "out" / "model"),
        {"swh_Latn": str(held_out), **{code: str(texts[code]) for code in ("eng_Latn", "spa_Latn")}},
        against=recipe["base"],
        learn=["swh_Latn"],
        retain=["eng_Latn", "spa_Latn"],
        max_length=32,
        tasks=tasks,
    )
    for part in ("languages", "tasks", "samples", "learning", "forgetting"):
        assert again[part] == results[part]
    assert len(results["samples"]) == 3 * NUM_SAMPLES


@pytest.mark.parametrize("changed", ["white space in a text", "a question"])
def test_what_is_measured_is_measured_again_before_and_after_when_it_changed(
    recipe, texts, tmp_path, changed, caplog
) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"context": "casa", "choices": [" agua", " xx"], "answer": 0}')
    recipe["evaluation"]["tasks"] = {"likely": {"spa_Latn": str(questions)}}
    before = lingraft.run(recipe, tmp_path / "out")
    if changed == "a question":
        questions.write_text('{"context": "casa", "choices": [" agua", " xx"], "answer": 1}')
        after = lingraft.run(recipe, tmp_path / "out")
        of = [results["tasks"]["likely"]["languages"]["spa_Latn"]["score"] for results in (before, after)]
        assert [of[1][when] for when in ("before", "after")] == [1 - of[0][when] for when in ("before", "after")]
    else:
        texts["spa_Latn"].write_text(texts["spa_Latn"].read_text().replace("casa ", "casa   "))
        with caplog.at_level("WARNING", logger="lingraft"):
            after = lingraft.run(recipe, tmp_path / "out")
        again = [record.getMessage() for record in caplog.records if "made again" in record.getMessage()]
        assert {line.split(":")[0] for line in again} >= {"before", "after"}
        assert after["languages"]["spa_Latn"]["bytes"] > before["languages"]["spa_Latn"]["bytes"]


def test_in_context_abilities_are_measured_before_the_first_step_and_at_each_validation(
    recipe, texts, tmp_path
) -> None:
    words = " ".join(f"{a}{b}" for a in ("ka", "lo", "mi", "ne", "su") for b in ("ra", "te", "vi", "po", "du"))
    for path in texts.values():
        path.write_text(path.read_text().rstrip("\n") + "\n" + json.dumps({"text": words}) + "\n")
    recipe["evaluation"]["num_sequences"] = 2
    without = json.loads(json.dumps(recipe))
    without["evaluation"]["num_sequences"] = 0
    lingraft.run(recipe, tmp_path / "out")
    lingraft.run(without, tmp_path / "without")
    log, plain = (json.loads((tmp_path / name / "training.json").read_text())["log"] for name in ("out", "without"))
    for code in ("eng_Latn", "spa_Latn"):
        steps = [entry["step"] for entry in log if f"copying_{code}" in entry]
        assert steps == [0, *(entry["step"] for entry in log if "eval_eng_Latn_loss" in entry)]
    assert [entry["loss"] for entry in log if "loss" in entry] == [entry["loss"] for entry in plain if "loss" in entry]
    assert "In-context copying, % of tokens predicted" in (tmp_path / "out" / "report.html").read_text()


def test_a_run_can_be_drawn_again_without_its_work(recipe, tmp_path) -> None:
    out = tmp_path / "out"
    lingraft.run(recipe, out)
    page = (out / "report.html").read_text()
    shutil.rmtree(out / "work")
    lingraft.report([out], tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == page
    origin = json.loads((out / "lingraft.json").read_text())
    assert "what trains" in origin["plan"]
    assert sum(part["in_full"] for part in origin["stack"]) == 2 * 258 * 32  # embeddings and head
    assert any("eval_eng_Latn_loss" in entry for entry in json.loads((out / "training.json").read_text())["log"])


def bytes_of(blocks) -> bytes:
    """The text of packed blocks of the byte-level tokenizer, whose ids follow its alphabet."""
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = {**dict(enumerate(alphabet)), 256: "\n", 257: "\n"}
    text = "".join(letters[i] for block in blocks for i in block["input_ids"])
    return text.replace("Ġ", " ").encode()


def test_text_that_is_measured_never_trains(recipe, texts, tmp_path) -> None:
    """The file of retained English is given as replay too: what is measured is left out of it."""
    lines = texts["eng_Latn"].read_text().splitlines()
    measured = tmp_path / "measured.jsonl.gz"
    measured.write_bytes(gzip.compress("\n".join(lines[:8]).encode()))
    recipe["evaluation"]["text"]["eng_Latn"] = str(measured)
    recipe["corpus"].append({"language": "eng_Latn", "files": str(texts["eng_Latn"]), "share": 0.25})
    recipe["training"]["max_steps"] = 1
    out = tmp_path / "out"
    lingraft.run(recipe, out)
    replay = json.loads((out / "lingraft.json").read_text())["corpus"][1]
    assert replay["kept_out"] == 8
    assert replay["share"] == pytest.approx(0.25, abs=0.001)
    trained = bytes_of(open_table(out / "work" / "blocks" / "training.arrow"))
    assert all(json.loads(line)["text"].encode() not in trained for line in lines[:8])


def test_the_method_full_has_no_adapter_and_starts_from_a_float32_base_too(recipe, make_model, tmp_path) -> None:
    make_model(tied=True).save_pretrained(recipe["base"])
    recipe["method"] = {"name": "full"}
    out = tmp_path / "out"
    lingraft.run(recipe, out)
    assert not (out / "adapter").exists()
    stored = load_file(out / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}
    assert "lm_head.weight" not in stored
    origin = json.loads((out / "lingraft.json").read_text())
    assert origin["export"]["bits_per_byte_unrounded"].keys() == {"swh_Latn", "eng_Latn", "spa_Latn"}


def test_a_finished_run_started_again_does_nothing_and_says_the_same(recipe, tmp_path) -> None:
    out = tmp_path / "out"
    recipe["training"]["max_steps"] = 2
    first = lingraft.run(recipe, out)
    times = {path: path.stat().st_mtime_ns for path in (out / "work").rglob("*") if path.is_file()}
    assert lingraft.run(recipe, out) == first
    assert {path: path.stat().st_mtime_ns for path in (out / "work").rglob("*") if path.is_file()} == times


def test_changed_text_is_read_again(recipe, texts, tmp_path) -> None:
    out = tmp_path / "out"
    recipe["training"]["max_steps"] = 2
    before = lingraft.run(recipe, out)
    with texts["spa_Latn"].open("a") as file:
        file.write('{"text": "otra vez el sol y la luna"}\n')
    after = lingraft.run(recipe, out)
    spanish = [results["languages"]["spa_Latn"]["bytes"] for results in (before, after)]
    assert spanish[1] == spanish[0] + len("otra vez el sol y la luna")


def test_text_that_the_base_generates_stands_for_a_language_without_text(recipe, tmp_path) -> None:
    del recipe["evaluation"]["text"]["eng_Latn"]
    recipe["evaluation"]["self_generated"] = "eng_Latn"
    recipe["training"]["max_steps"] = 2
    results = lingraft.run(recipe, tmp_path / "out")
    lines = (tmp_path / "out/work/generated-documents/text.jsonl").read_text().splitlines()
    size = sum(len(json.loads(line)["text"].encode()) for line in lines)
    english, spanish = (results["languages"][code] for code in ("eng_Latn", "spa_Latn"))
    assert (english["bytes"], english["self_generated"]) == (size, True)
    assert "self_generated" not in spanish
    assert "text that the base generated" in (tmp_path / "out/report.html").read_text()


def test_a_changed_tokenizer_is_noticed(recipe, base, tmp_path) -> None:
    out = tmp_path / "out"
    recipe["training"]["max_steps"] = 2
    lingraft.run(recipe, out)
    config = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps({**config, "bos_token": None}))
    assert lingraft.run(recipe, out)["measured"]["before"] == "<eos>"
    blocks = open_table(out / "work" / "blocks" / "training.arrow")
    assert all(256 not in block["input_ids"] for block in blocks)


def test_a_hub_dataset_is_read_only_as_far_as_it_is_needed(recipe, texts, tmp_path) -> None:
    """A folder in the place of the hub; more documents than the budget and the share ask for."""
    hub = tmp_path / "hub"
    for code in ("swh_Latn", "eng_Latn"):
        (hub / code).mkdir(parents=True)
        lines = texts[code].read_text().splitlines()
        many = [json.dumps({"text": f"{i} {json.loads(line)['text']}"}) for i in range(40) for line in lines]
        (hub / code / "train.jsonl").write_text("\n".join(many))
    recipe["corpus"] = [
        {"language": "swh_Latn", "hub": str(hub / "swh_Latn"), "tokens": 4000},
        {"language": "eng_Latn", "hub": str(hub / "eng_Latn"), "share": 0.2},
    ]
    recipe["training"]["max_steps"] = 2
    out = tmp_path / "out"
    lingraft.run(recipe, out)
    corpora = json.loads((out / "lingraft.json").read_text())["corpus"]
    assert [entry["tokens"] for entry in corpora] == [4000, 1000]
    held = [open_table(out / "work" / f"corpus-{i}" / "documents.arrow").num_rows for i in range(2)]
    assert max(held) <= 512  # one batch of the tokenizer, of 3,200 documents


def test_a_changed_hub_folder_has_another_revision(tmp_path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "maji"}')
    before = hub_revision(str(tmp_path))
    (tmp_path / "train.jsonl").write_text('{"text": "moto"}')
    assert hub_revision(str(tmp_path)) != before
    assert hub_revision("no-such/dataset") is None  # out of reach


@pytest.fixture(scope="module")
def straight(shared_recipe, tmp_path_factory) -> Path:
    """A run of two epochs that nobody kills, beside its recipe."""
    folder = tmp_path_factory.mktemp("straight")
    training = {**shared_recipe["training"], "num_train_epochs": 2, "save_steps": 8}
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**shared_recipe, "training": training}))
    command("run", folder / "recipe.yaml", "--out", folder / "run")
    return folder / "run"


@pytest.mark.xdist_group("killed runs")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
def test_a_killed_run_started_again_ends_with_the_same_model(straight, tmp_path, how) -> None:
    arguments = ["run", straight.parent / "recipe.yaml", "--out", tmp_path / "killed"]
    started, deadline = Command(*arguments), time.monotonic() + 120
    while not list(tmp_path.glob("killed/work/training-*/checkpoint-*/finished.json")):
        assert time.monotonic() < deadline, "no checkpoint"
        time.sleep(0.02)
    started.send(how)
    assert started.end()[0] == (-signal.SIGKILL if how == signal.SIGKILL else 3)
    assert not (tmp_path / "killed" / "model").exists()

    _, said = command(*arguments)
    assert "resuming from" in said
    for name in ("model/model.safetensors", "adapter/adapter_model.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (straight / name).read_bytes()


def test_two_processes_train_what_one_trains(recipe, tmp_path) -> None:
    """Half the batch on each of two processes is the same step; every stage is made once."""
    recipe["training"] |= {"use_cpu": True, "max_steps": 12}
    recipe["method"]["dropout"] = 0.0
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "lingraft"]
    halves = ["training.per_device_train_batch_size=2", "training.ddp_backend=gloo"]
    done = subprocess.run(
        [*launch, "run", str(path), *halves, "--out", str(tmp_path / "two")],
        check=True,
        timeout=150,
        capture_output=True,
        text=True,
    )
    assert done.stdout.count("learning") == 1
    one = lingraft.run(path, tmp_path / "one")
    two = json.loads((tmp_path / "two" / "results.json").read_text())
    assert two["learning"] == pytest.approx(one["learning"], rel=1e-3)
    assert two["forgetting"] == pytest.approx(one["forgetting"], rel=1e-3)


def test_where_nothing_is_said_validation_looks_at_few_blocks(recipe, tmp_path) -> None:
    """Early stopping included, whose text is looked at as often."""
    recipe["validation"] = {"share": 0.2}
    recipe["early_stopping"] = {"patience": 3}
    out = tmp_path / "out"
    lingraft.run(recipe, out)
    table = {path.stem: len(open_table(path)) for path in (out / "work" / "held-out-blocks").glob("*.arrow")}
    assert {code: table[f"validation-{code}"] for code in ("swh_Latn", "eng_Latn", "spa_Latn")} == dict.fromkeys(
        ("swh_Latn", "eng_Latn", "spa_Latn"), 2
    )
    assert table["selection-swh_Latn"] > 8  # more than is looked at while it trains, for what is decided afterwards
