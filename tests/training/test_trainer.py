from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from transformers import TrainerCallback

from lingraft.errors import TrainingError
from lingraft.methods import METHODS
from lingraft.methods.new_rows import train_new_rows
from lingraft.nn.chunked_cross_entropy import per_token_loss
from lingraft.training import trainer as training
from lingraft.training.arguments import OWNED_ARGUMENTS, training_arguments
from lingraft.training.averaging import Averages
from lingraft.training.batches import TrainingText, collate
from lingraft.training.checkpoints import newest_checkpoint
from lingraft.training.graft_arguments import GraftArguments
from lingraft.training.trainer import LanguageTrainer, train

pytestmark = pytest.mark.integration

SPEEDS = ("_runtime", "_per_second")
LANGUAGES = ["swh_Latn", "eng_Latn"]


@pytest.fixture
def blocks() -> Dataset:
    """22 blocks of 16 tokens and a short one; languages change within blocks."""
    random = np.random.default_rng(0)
    lengths = [16] * 22 + [5]
    return Dataset.from_dict(
        {
            "input_ids": [random.integers(0, 256, n).tolist() for n in lengths],
            "languages": [random.integers(0, 2, n).tolist() for n in lengths],
        }
    )


@pytest.fixture
def adapt(make_model):
    def build(name: str = "layra", **settings):
        torch.manual_seed(0)
        shape = {"first": 1, "last": 1, "rank": 2, "dropout": 0.3} if name == "layra" else {}
        name, _, rows = name.partition(" with new rows from ")
        name, _, extra = name.partition(", stream wider: ")
        shape |= {"extra_width": int(extra)} if extra else {}
        adaptation = METHODS[name](name=name, **{**shape, **settings}).apply(make_model())
        return train_new_rows(adaptation, int(rows)) if rows else adaptation

    return build


def arguments(folder: Path, **settings):
    defaults = {"per_device_train_batch_size": 2, "learning_rate": 1e-2, "logging_steps": 1, "num_train_epochs": 1}
    defaults |= {"eval_strategy": "no"}
    return training_arguments({**defaults, **settings}, folder, seed=0)


def text(blocks: Dataset, validation=None, **more) -> TrainingText:
    return TrainingText(blocks, LANGUAGES, ["swh_Latn"], validation or {}, **more)


def parameters(adaptation) -> dict[str, torch.nn.Parameter]:
    return {name: adaptation.model.get_parameter(name) for name in adaptation.trainable}


def weights(adaptation) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in parameters(adaptation).items()}


def test_the_gradient_is_that_of_the_mean_loss_over_all_tokens_of_a_step(make_model, blocks, tmp_path) -> None:
    """Micro-batches of unequal numbers of tokens, as the Trainer counts them, against one naive sum in float64."""
    seen, gradients = [], []

    class Watch(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model, **_) -> None:
            gradients.extend(parameter.grad.double() for parameter in model.parameters())

    def watch(rows):
        seen.append(collate(rows))
        return seen[-1]

    model, unequal = make_model(), blocks.select([0, 22, 1, 2, 22, 3, 4])
    trainer = LanguageTrainer(
        text(unequal),
        METHODS["full"]().apply(model),
        (),
        args=arguments(tmp_path, gradient_accumulation_steps=4, max_grad_norm=0, max_steps=1),
        train_dataset=unequal.with_format("numpy"),
        data_collator=watch,
        callbacks=[Watch()],
    )
    with per_token_loss(model):
        trainer.train()

    reference = make_model().double()
    tokens = sum((batch["labels"][:, 1:] != -100).sum() for batch in seen)
    assert tokens == 5 * 15 + 2 * 4
    for batch in seen:
        logits = reference(batch["input_ids"]).logits[:, :-1].flatten(0, 1)
        (cross_entropy(logits, batch["labels"][:, 1:].flatten(), reduction="sum") / tokens).backward()
    for got, expected in zip(gradients, reference.parameters(), strict=True):
        torch.testing.assert_close(got, expected.grad, rtol=1e-4, atol=1e-6)


def test_the_loss_of_each_language_is_logged_and_they_make_up_the_whole(adapt, blocks, tmp_path) -> None:
    outcome = train(adapt(dropout=0.0), text(blocks, {}), arguments(tmp_path, learning_rate=0.0, logging_steps=12))
    entry = next(entry for entry in outcome.log if "loss" in entry)
    rows = [(np.array(block["input_ids"]), np.array(block["languages"])) for block in blocks]
    of_language = [sum(int((marks[1:] == number).sum()) for _, marks in rows) for number in range(2)]
    mean = sum(entry[f"loss_{code}"] * n for code, n in zip(LANGUAGES, of_language, strict=True)) / sum(of_language)
    # The Trainer's loss is a mean over steps; the short block makes one step of the twelve smaller.
    assert entry["loss"] == pytest.approx(mean, rel=0.01)
    assert entry["loss_swh_Latn"] != entry["loss_eng_Latn"]


def test_validation_is_logged_for_every_language_at_each_evaluation(adapt, blocks, tmp_path) -> None:
    validation = {"swh_Latn": blocks.select(range(4)), "eng_Latn": blocks.select(range(4, 8))}
    settings = {"eval_strategy": "steps", "eval_steps": 4}
    outcome = train(adapt(), text(blocks, validation), arguments(tmp_path, **settings))
    for code in LANGUAGES:
        assert [e["step"] for e in outcome.log if f"eval_{code}_loss" in e] == [4, 8, 12]


def test_validation_loss_is_the_mean_over_tokens_of_the_blocks(adapt, blocks, tmp_path) -> None:
    adaptation = adapt()
    chosen = blocks.select(range(4))
    settings = {"eval_strategy": "steps", "eval_steps": 1, "max_steps": 1, "learning_rate": 0.0}
    outcome = train(adaptation, text(blocks, {"swh_Latn": chosen}), arguments(tmp_path, **settings))
    ids = torch.tensor([block["input_ids"] for block in chosen])
    logits = adaptation.model.eval()(input_ids=ids).logits
    expected = cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    logged = next(e["eval_swh_Latn_loss"] for e in outcome.log if "eval_swh_Latn_loss" in e)
    assert logged == pytest.approx(expected.item(), rel=1e-5)


def timeless(log: list[dict]) -> list[dict]:
    """A log without what depends on the machine's speed."""
    return [{name: value for name, value in entry.items() if not name.endswith(SPEEDS)} for entry in log]


class _Kill(TrainerCallback):
    """Ends training as a kill does, between the end of a step and what would be saved after it."""

    def on_step_end(self, args, state, control, **_) -> None:
        if state.global_step == 7:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "method",
    [
        "full",
        "layra",
        "neutral-residues",
        "lora with new rows from 200",
        "adapters with new rows from 200",
        "silent-adapters, stream wider: 8 with new rows from 200",
        "full by muon",
        "full averaged",
        "adapters averaged",
    ],
)
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_killed_run_ends_with_the_same_bits(adapt, blocks, tmp_path, monkeypatch, method, accumulation) -> None:
    """Dropout, a learning-rate schedule and two epochs: all that a resumed run has to pick up."""
    settings = {"save_steps": 3, "num_train_epochs": 2, "gradient_accumulation_steps": accumulation}
    settings |= {"eval_strategy": "steps", "eval_steps": 2, "logging_steps": 4, "include_num_input_tokens_seen": True}
    method, _, optimizer = method.partition(" by ")
    settings |= {"optim": optimizer} if optimizer else {}
    method, *is_averaged = method.split(" averaged")
    validation = {"swh_Latn": blocks.select(range(4))}

    def run(adaptation, folder: str):
        averages = Averages(parameters(adaptation), ema=0.9) if is_averaged else None
        return train(adaptation, text(blocks, validation), arguments(tmp_path / folder, **settings), averages=averages)

    straight = adapt(method)
    outcome = run(straight, "straight")

    class Killed(LanguageTrainer):
        def __init__(self, *args, **kwargs) -> None:
            super().__init__(*args, **kwargs)
            self.add_callback(_Kill())

    monkeypatch.setattr(training, "LanguageTrainer", Killed)
    with pytest.raises(KeyboardInterrupt):
        run(adapt(method), "killed")
    monkeypatch.undo()
    assert newest_checkpoint(tmp_path / "killed").folder.name == "checkpoint-6"
    resumed = adapt(method)
    again = run(resumed, "killed")
    assert timeless(again.log) == timeless(outcome.log)
    assert [list(entry) for entry in again.log] == [list(entry) for entry in outcome.log], "the same bytes as JSON"
    written = [json.loads(line) for line in (tmp_path / "killed" / "log.jsonl").read_text().splitlines()]
    assert written == again.log
    assert again.seconds > again.log[-1]["train_runtime"] > outcome.log[-1]["train_runtime"] / 2

    expected = weights(straight)
    for name, tensor in weights(resumed).items():
        assert torch.equal(tensor, expected[name]), name


def test_a_run_killed_after_its_last_checkpoint_takes_no_further_step(adapt, blocks, tmp_path) -> None:
    """The window in which a large model is merged and written."""
    settings = {"max_steps": 4, "save_steps": 2, "lr_scheduler_type": "constant"}
    straight, resumed = adapt(), adapt()
    first = train(straight, text(blocks, {}), arguments(tmp_path, **settings))
    outcome = train(resumed, text(blocks, {}), arguments(tmp_path, **settings))
    assert outcome.num_steps == 4
    assert timeless(outcome.log) == timeless(first.log)
    checkpoint = newest_checkpoint(tmp_path)
    assert checkpoint is not None
    assert outcome.log[-1]["train_runtime"] >= round(checkpoint.progress["seconds"], 4) > 0  # of both processes
    expected = weights(straight)
    for name, tensor in weights(resumed).items():
        assert torch.equal(tensor, expected[name]), name


def test_every_owned_argument_is_one_of_the_trainers() -> None:
    names = {field.name for field in dataclasses.fields(GraftArguments)}
    assert set(OWNED_ARGUMENTS) <= names


def test_a_loss_that_is_not_a_number_ends_training_with_advice(adapt, blocks, tmp_path) -> None:
    adaptation = adapt("full")
    with torch.no_grad():
        adaptation.model.get_parameter(adaptation.trainable[0]).fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"loss at step 1 is nan; training diverged; lower training\.learning_rate"):
        train(adaptation, text(blocks, {}), arguments(tmp_path))


def test_a_compiler_that_fails_ends_training_and_names_the_setting(adapt, blocks, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    with pytest.raises(
        TrainingError, match=r"training\.torch_compile: the model cannot be compiled here \(.*remove it"
    ):
        train(adapt("full"), text(blocks, {}), arguments(tmp_path, torch_compile=True))


def test_frozen_layers_learn_through_gradient_checkpointing(adapt, blocks, tmp_path) -> None:
    """The embeddings are frozen: without a gradient into the first layer nothing would train."""
    adaptation = adapt(embeddings=False)
    before = weights(adaptation)
    train(adaptation, text(blocks, {}), arguments(tmp_path, gradient_checkpointing=True))
    assert all(not torch.equal(tensor, before[name]) for name, tensor in weights(adaptation).items())


def test_autocast_is_gone_from_the_model_after_training(make_model, blocks, tmp_path) -> None:
    """Mixed precision leaves the logits of the merged model those of the live one in float32."""
    adaptation = METHODS["layra"](name="layra", first=1, last=1, rank=2).apply(make_model().to(torch.bfloat16))
    train(adaptation, text(blocks, {}), arguments(tmp_path, bf16=True, use_cpu=True, max_steps=2))
    ids = torch.arange(20)[None]
    live = adaptation.model.float().eval()(input_ids=ids).logits
    torch.testing.assert_close(adaptation.exports["plain"]()(input_ids=ids).logits, live, atol=1e-5, rtol=1e-5)
