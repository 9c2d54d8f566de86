"""Self-generated replay: whole blocks from BOS, its own distribution as target, readable text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from torch.nn.functional import kl_div, log_softmax

from lingraft import run
from lingraft.checkpoints.read import read_model
from lingraft.corpus.sample import sample
from lingraft.corpus.tokenize import open_table
from lingraft.errors import RecipeError
from lingraft.methods import METHODS
from lingraft.nn.chunked_cross_entropy import distillation_kl, per_token_loss, top_k_log_probs
from lingraft.pipeline import self_generated as stage
from lingraft.recipe import load_recipe
from lingraft.recipe.stage import Replay
from lingraft.training.arguments import training_arguments
from lingraft.training.batches import TrainingText, collate
from lingraft.training.trainer import LanguageTrainer

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("self-generated")]  # one run serves many tests
BLOCKS = "work/self-generated/part-0/blocks.arrow"


@pytest.fixture(scope="module")
def done_recipe(shared_recipe):
    training = {**shared_recipe["training"], "logging_steps": 1}
    return {**shared_recipe, "replay": {"self_generated": 0.2}, "training": training}


@pytest.fixture(scope="module")
def done(done_recipe, tmp_path_factory) -> Path:
    """A run with a fifth of self-generated tokens."""
    out = tmp_path_factory.mktemp("done") / "out"
    run(done_recipe, out)
    return out


@pytest.fixture
def written(recipe, tmp_path):
    """A factory of such runs."""

    def build(**settings):
        recipe["replay"] = {"self_generated": 0.2, **settings}
        run(recipe, tmp_path / "out")
        return tmp_path / "out"

    return build


def test_the_share_is_of_all_tokens(done) -> None:
    blocks = open_table(done / BLOCKS)
    mix = json.loads((done / "work/blocks/mix.json").read_text())
    text = sum(entry["tokens"] for entry in mix["entries"])
    assert mix["tokens"] == pytest.approx(text / 0.8, abs=1)
    assert 32 * len(blocks) == pytest.approx(0.2 * mix["tokens"], abs=16)
    assert sum(entry["share"] for entry in mix["entries"]) == pytest.approx(0.8, abs=1e-3)


def test_blocks_are_whole_and_begin_with_bos_and_can_be_read(done) -> None:
    rows = open_table(done / BLOCKS)["input_ids"][:]
    assert {len(row) for row in rows} == {32}
    assert {row[0] for row in rows} == {256}
    texts = [json.loads(line)["text"] for line in (done / BLOCKS).with_name("text.jsonl").open()]
    assert len(texts) == len(rows)


def test_the_teacher_is_the_bases_distribution(written, base) -> None:
    row = open_table(written(top_k=8) / BLOCKS)[0]
    logits = read_model(base, torch.float32).eval()(torch.tensor([row["input_ids"]])).logits[0, :-1]
    log_probs, tokens = log_softmax(logits, -1).topk(8)
    assert torch.equal(torch.tensor(row["teacher_tokens"]).view(31, 8), tokens)
    torch.testing.assert_close(torch.tensor(row["teacher_log_probs"]).view(31, 8), log_probs, atol=4e-3, rtol=0)


def test_cross_entropy_needs_no_teacher(written) -> None:
    assert open_table(written(loss="ce") / BLOCKS).column_names == ["input_ids", "languages"]


def test_its_loss_is_logged_and_starts_at_nothing(done) -> None:
    """KL of the base from itself is 0 (the rest of the teacher's distribution is one token, half precision)."""
    log = json.loads((done / "training.json").read_text())["log"]
    first = next(entry for entry in log if "loss_self-generated" in entry)
    assert abs(first["loss_self-generated"]) < 1e-2 < first["loss_swh_Latn"]


def test_parts_that_were_written_before_a_kill_are_kept(recipe, tmp_path, monkeypatch) -> None:
    recipe["replay"] = {"self_generated": 0.2}
    monkeypatch.setattr(stage, "PART", 10)
    write, calls = stage.sample, []

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write(*arguments)

    monkeypatch.setattr(stage, "sample", killed)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path / "out")
    run(recipe, tmp_path / "out")
    parts = sorted((tmp_path / "out/work/self-generated").iterdir())
    assert len(parts) > 1
    assert len(calls) == len(parts) + 1
    record = json.loads((tmp_path / "out/lingraft.json").read_text())["self_generated"]
    assert record["tokens"] == 32 * sum(len(open_table(part / "blocks.arrow")) for part in parts)
    assert record["share"] == pytest.approx(0.2, abs=0.01)


def test_the_same_seed_writes_the_same(done, done_recipe, tmp_path) -> None:
    run(done_recipe, tmp_path / "other")
    assert (tmp_path / "other" / BLOCKS).read_bytes() == (done / BLOCKS).read_bytes()


def test_a_kl_over_all_tokens_is_the_kl(make_model) -> None:
    model = make_model()
    hidden = torch.randn(20, 32)
    moved = hidden + torch.randn(20, 32)
    tokens, log_probs = top_k_log_probs(model, hidden, 258)
    p, q = (log_softmax(model.lm_head(of), -1) for of in (hidden, moved))
    expected = kl_div(q, p, log_target=True, reduction="none").sum(1)
    torch.testing.assert_close(distillation_kl(model, moved, tokens, log_probs), expected, atol=2e-5, rtol=1e-3)


def test_a_kl_over_few_tokens_is_that_with_all_others_as_one(make_model) -> None:
    model = make_model()
    hidden = torch.randn(20, 32)
    moved = hidden + torch.randn(20, 32)
    tokens, log_probs = top_k_log_probs(model, hidden, 3)
    q = log_softmax(model.lm_head(moved), -1).exp().gather(1, tokens)
    p = log_probs.exp()
    p, q = (torch.cat([of, 1 - of.sum(1, keepdim=True)], 1) for of in (p, q))
    expected = (p * (p / q).log()).sum(1)
    torch.testing.assert_close(distillation_kl(model, moved, tokens, log_probs), expected, atol=1e-5, rtol=1e-4)


def test_a_kl_counts_what_new_tokens_take(make_model) -> None:
    """They are none of the other tokens of the teacher's: its probability of them is 0."""
    model, first_new = make_model(), 250
    hidden = torch.randn(20, 32)
    moved = hidden + torch.randn(20, 32)
    log_probs, tokens = log_softmax(model.lm_head(hidden)[:, :first_new], -1).topk(3)
    p, q = log_probs.exp(), log_softmax(model.lm_head(moved), -1).exp()
    rest = q[:, :first_new].sum(1, keepdim=True) - q.gather(1, tokens).sum(1, keepdim=True)
    p, q = torch.cat([p, 1 - p.sum(1, keepdim=True)], 1), torch.cat([q.gather(1, tokens), rest], 1)
    expected = (p * (p / q).log()).sum(1)
    given = distillation_kl(model, moved, tokens, log_probs, first_new)
    torch.testing.assert_close(given, expected, atol=1e-5, rtol=1e-4)
    assert (given > distillation_kl(model, moved, tokens, log_probs)).all()


def test_it_is_drawn_at_temperature_one(make_model, documents) -> None:
    """First tokens come as often as the model says, whatever its generation config says."""
    model = make_model()
    model.generation_config.temperature, model.generation_config.top_k = 0.1, 1
    torch.manual_seed(0)
    rows = sample(model, documents, 4000, 2)
    assert (model.generation_config.temperature, model.generation_config.top_k) == (0.1, 1), "the model's again"
    p = log_softmax(model(torch.tensor([[256]])).logits[0, -1], -1).exp()
    drawn = torch.bincount(rows[:, 1], minlength=258) / 4000
    assert (drawn - p).abs().max() < 5 * (p.max() / 4000) ** 0.5


@pytest.mark.parametrize("name", ["full", "layra", "neutral-residues"])
def test_it_composes_with_every_kind_of_method(written, recipe, name) -> None:
    recipe["method"] = {"name": name, **({"first": 1, "last": 1} if name == "layra" else {})}
    log = json.loads((written() / "training.json").read_text())["log"]
    assert any("loss_self-generated" in entry for entry in log)


def test_it_holds_the_model_to_the_base(make_model, tmp_path) -> None:
    """A step of KL alone leads back towards the base's distribution."""
    model = make_model()
    hidden = torch.randn(30, 32)
    tokens, log_probs = top_k_log_probs(model, hidden, 16)
    with torch.no_grad():
        model.lm_head.weight.add_(torch.randn_like(model.lm_head.weight) * 0.1)
    optimizer = torch.optim.AdamW(model.lm_head.parameters(), lr=0.02, weight_decay=0.0)
    losses = []
    for _ in range(40):
        loss = distillation_kl(model, hidden, tokens, log_probs).mean()
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 2


def test_shares_that_leave_nothing_are_refused(recipe, texts) -> None:
    recipe["replay"] = {"self_generated": 0.6}
    recipe["corpus"].append({"language": "eng_Latn", "files": str(texts["eng_Latn"]), "share": 0.5})
    with pytest.raises(RecipeError, match=r"add up to 1\.1 with replay\.self"):
        load_recipe(recipe)


def test_the_loss_is_that_of_the_text_and_the_weighted_kl(make_model, tmp_path) -> None:
    """Their means, whatever the share of what the base wrote: as weights of the tokens in one mean."""
    replay = Replay.model_validate({"self_generated": 0.25, "kl_weight": 3.0})
    of_text, of_taught = replay.weights(0.25)
    ce, kl = 2.0, 0.5
    assert 0.75 * of_text * ce + 0.25 * of_taught * kl == pytest.approx(ce + 3.0 * kl)
    assert Replay.model_validate({"self_generated": 0.25, "loss": "ce"}).weights(0.25) == (1.0, 1.0)


def test_the_weights_reach_the_gradient(make_model, tmp_path) -> None:
    """A batch of text and of blocks with a teacher, against the weighted sum by hand in float64."""
    model = make_model()
    ids = torch.randint(0, 256, (4, 12))
    tokens, log_probs = torch.randint(0, 256, (2, 11, 5)), torch.full((2, 11, 5), -2.0)
    teacher = {"teacher_tokens": tokens.flatten(1), "teacher_log_probs": log_probs.flatten(1)}
    rows = [{"input_ids": row.numpy(), "languages": row.numpy() * 0} for row in ids]
    for i in range(2):
        rows[2 + i] |= {name: of[i].numpy() for name, of in teacher.items()}
    text = TrainingText(Dataset.from_dict({"input_ids": [[0]]}), ["swh_Latn"], ["swh_Latn"], {}, weights=(2.0, 7.0))
    arguments = training_arguments({"eval_strategy": "no", "use_cpu": True}, tmp_path, 0)
    trainer = LanguageTrainer(text, METHODS["full"]().apply(model), args=arguments, train_dataset=text.blocks)
    batch = collate(rows[::-1])  # whatever their order was
    with per_token_loss(model):
        trainer.compute_loss(model.train(), batch, num_items_in_batch=44).backward()
    got = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    reference = make_model().double()
    log_q = log_softmax(reference(ids).logits[:, :-1], -1)
    ce = -log_q[:2].gather(2, ids[:2, 1:, None]).sum()
    log_q, log_p = log_q[2:].gather(2, tokens), log_probs.double()
    rest_p, rest_q = 1 - log_p.exp().sum(2), 1 - log_q.exp().sum(2)
    kl = (log_p.exp() * (log_p - log_q)).sum() + (rest_p * (rest_p / rest_q).log()).sum()
    ((2 * ce + 7 * kl) / 44).backward()
    for name, parameter in reference.named_parameters():
        torch.testing.assert_close(got[name].double(), parameter.grad, rtol=1e-3, atol=1e-6)


def test_generated_text_that_shares_measured_text_is_counted_since_it_trains(written, recipe, texts, tmp_path) -> None:
    out = written()
    texts_of = (out / BLOCKS).with_name("text.jsonl")
    before = json.loads((out / "results.json").read_text())["overlap"][-1]
    (first, *_) = [json.loads(line)["text"] for line in texts_of.open()]  # whole, as no mark stands within it
    measured = tmp_path / "measured.jsonl"
    measured.write_text(texts["eng_Latn"].read_text() + json.dumps({"text": first}) + "\n")
    recipe["evaluation"]["text"]["eng_Latn"] = str(measured)
    run(recipe, tmp_path / "out")
    after = json.loads((out / "results.json").read_text())["overlap"][-1]
    assert (after["language"], after["left_out"]) == ("self-generated", 0)
    assert after["documents"] >= len(open_table(out / BLOCKS))
    assert after["trained"] == before.get("trained", 0) + 1
