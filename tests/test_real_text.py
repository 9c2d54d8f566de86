"""The main job on real text and a small real base, where they lie beside the repository."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from command_line import command

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
BASE = SHARED / "models" / "backbone"
MAX_LENGTH = 256

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not BASE.is_dir(), reason="no folder 'shared' with a base beside the repository"),
    pytest.mark.xdist_group("real text"),  # one run serves both tests
]


@pytest.fixture(scope="module")
def english(tmp_path_factory) -> Path:
    """A few real documents of English."""
    return some_documents("eng_Latn", tmp_path_factory)


@pytest.fixture(scope="module")
def spanish(tmp_path_factory) -> Path:
    """A few real documents of Spanish."""
    return some_documents("spa_Latn", tmp_path_factory)


def some_documents(code: str, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("text") / f"{code}.jsonl"
    with gzip.open(SHARED / "corpora" / f"{code}.gnomehelp.jsonl.gz", "rt") as lines:
        path.write_text("".join(line for number, line in enumerate(lines) if number % 120 == 0))
    return path


@pytest.fixture(scope="module")
def out(english, spanish, tmp_path_factory) -> Path:
    """The shipped recipe on local files, as a user overrides it."""
    out = tmp_path_factory.mktemp("run") / "swahili"
    corpus = f"[{{language: swh_Latn, files: {SHARED}/corpora/swh_Latn.lafand.jsonl.gz, tokens: 5_000}}]"
    overrides = [
        f"base={BASE}",
        f"corpus={corpus}",
        f"evaluation.text.eng_Latn={english}",
        f"evaluation.text.spa_Latn={spanish}",
        "method.first=4",
        "method.last=1",
        "validation.max_tokens=3000",
        "validation.blocks=2",
        "training.per_device_train_batch_size=2",
        "training.learning_rate=1e-3",
        "training.eval_steps=0.5",
        "training.save_steps=0.5",
        "evaluation.num_samples=1",
    ]
    recipe = ROOT / "recipes" / "swahili-layra.yaml"
    command("run", recipe, *overrides, "--out", out)
    return out


def test_swahili_is_learned_and_the_loss_of_the_old_language_is_known(out) -> None:
    results = json.loads((out / "results.json").read_text())
    assert results["languages"]["swh_Latn"]["bits_per_byte"]["delta"] < -0.3
    assert 0 < results["forgetting"] < results["learning"]


def test_the_exported_model_is_plain_and_is_the_measured_one(out, english) -> None:
    """Loaded by transformers alone and scored in a plain loop over logits, window by window."""
    model = AutoModelForCausalLM.from_pretrained(out / "model", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(out / "model")
    nats = num_bytes = 0.0
    for line in english.read_text().splitlines():
        text = json.loads(line)["text"]
        ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False, verbose=False).input_ids]
        done, start = 1, 0
        while done < len(ids):
            end = min(start + MAX_LENGTH, len(ids))
            with torch.no_grad():
                logits = model(torch.tensor([ids[start:end]])).logits[0].log_softmax(-1)
            nats -= sum(logits[i - 1 - start, ids[i]].item() for i in range(done, end))
            done, start = end, start + MAX_LENGTH // 2
        num_bytes += len(text.encode())
    measured = json.loads((out / "results.json").read_text())["languages"]["eng_Latn"]["bits_per_byte"]["after"]
    assert measured == pytest.approx(nats / math.log(2) / num_bytes, abs=1e-3)
