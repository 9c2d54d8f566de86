"""Losses and weights that must stay as they are: a change of the code's shape reproduces them to the bit.

    GOLDEN=write pytest tests/test_golden.py --numprocesses 0

writes `golden.json` anew, after a change that was meant to alter what is computed. The figures are of one version of
torch, on one kind of processor, on one thread.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lingraft
from conftest import WORDS, write_texts

RECORD = Path(__file__).with_name("golden.json")
MACHINE = {"torch": torch.__version__, "processor": torch.backends.cpu.get_cpu_capability()}
GOLDEN: dict[str, Any] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
WRITE = os.environ.get("GOLDEN") == "write"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not WRITE and GOLDEN.get("machine") != MACHINE, reason=f"figures are not of {MACHINE}"),
]

TRAINING = {
    "per_device_train_batch_size": 4,
    "learning_rate": 3e-3,
    "logging_steps": 1,
    "eval_steps": 10,
    "save_steps": 20,
    "max_steps": 8,
}
LORA = {"name": "lora", "rank": 2}
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def settings(tmp_path, base) -> dict[str, Any]:
    """A recipe without a method, and what recipes are made of: text by language, pairs, instructions, a template."""
    text = {code: str(path) for code, path in write_texts(tmp_path).items()}
    english, swahili = (WORDS[code].split()[:5] for code in ("eng_Latn", "swh_Latn"))
    draws = [[(i // 5**place) % 5 for place in range(3)] for i in range(120)]
    pairs = [{"eng": words(english, draw), "swh": words(swahili, draw)} for draw in draws]
    records = [{"instruction": "say", "input": word, "output": word, "id": i} for i, word in enumerate(english * 4)]
    capitals = [{"text": f"{i} IN CAPITALS, WHICH NO TEXT HAS THAT TRAINS: {i * i}"} for i in range(40)]
    for name, lines in {"pairs": pairs, "instructions": records, "capitals": capitals}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "template.jinja").write_text(TEMPLATE)
    run = {
        "base": str(base),
        "languages": {"learn": ["swh_Latn"], "retain": ["eng_Latn", "spa_Latn"]},
        "max_length": 32,
        "validation": {"share": 0.1, "blocks": 4},
        "evaluation": {"text": {code: text[code] for code in ("eng_Latn", "spa_Latn")}, "num_samples": 1},
    }
    corpus = [{"language": "swh_Latn", "files": text["swh_Latn"], "tokens": 4000}]
    files = {name: str(tmp_path / f"{name}.jsonl") for name in ("pairs", "instructions", "capitals")}
    return {"run": run, "corpus": corpus, "text": text, "template": str(tmp_path / "template.jinja"), **files}


def words(of: list[str], draw: list[int]) -> str:
    return " ".join(of[at] for at in draw)


def plain(given: dict[str, Any], method: dict[str, Any], **more: Any) -> dict[str, Any]:
    return given["run"] | {"corpus": given["corpus"], "training": TRAINING, "method": method} | more


def neutral_residues(given: dict[str, Any]) -> dict[str, Any]:
    text = given["text"]
    replay = {"language": "eng_Latn", "files": text["spa_Latn"], "share": 0.2}
    evaluation = given["run"]["evaluation"] | {"text": dict.fromkeys(("eng_Latn", "spa_Latn"), text["eng_Latn"])}
    return plain(given, {"name": "neutral-residues"}, corpus=[*given["corpus"], replay], evaluation=evaluation)


def limit(given: dict[str, Any]) -> dict[str, Any]:
    """Capitals become unlikely."""
    evaluation = given["run"]["evaluation"] | {"text": dict.fromkeys(("eng_Latn", "spa_Latn"), given["capitals"])}
    after = [{"max_forgetting": 0.02, "first": 1, "last": 1}]
    training = TRAINING | {"max_steps": 30, "learning_rate": 0.02}
    return plain(given, {"name": "full"}, merge=after, evaluation=evaluation, training=training)


def stages(given: dict[str, Any]) -> dict[str, Any]:
    pairs = [{"parallel": {"eng_Latn": "eng", "swh_Latn": "swh"}, "files": given["pairs"]}]
    instructions = [{"language": "eng_Latn", "files": given["instructions"]}]
    return given["run"] | {
        "max_length": 48,
        "vocabulary": {"new_tokens": 30},
        "stages": {
            "align": {"corpus": pairs, "method": {"name": "embeddings"}, "training": TRAINING},
            "adapt": {"corpus": given["corpus"], "method": LORA | {"embeddings": True}, "training": TRAINING},
            "instruct": {
                "instructions": instructions,
                "chat_template": given["template"],
                "method": LORA,
                "training": TRAINING,
            },
        },
    }


RECIPES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "full": lambda given: plain(given, {"name": "full"}),
    "layra": lambda given: plain(given, {"name": "layra", "first": 2, "last": 1, "rank": 2}),
    "neutral residues": neutral_residues,
    "self-generated replay": lambda given: plain(given, {"name": "full"}, replay={"self_generated": 0.2}),
    "a limit on forgetting": limit,
    "a scaled vector": lambda given: plain(given, LORA, merge=[{"scale": 0.5}]),
    "stages": stages,
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_gives_the_same_losses_and_weights(settings, tmp_path, name) -> None:
    out = tmp_path / "out"
    results = lingraft.run(RECIPES[name](settings), out)
    training = json.loads((out / "training.json").read_text())
    logs = [stage["log"] for stage in training.get("stages", [training])]
    compare(
        name,
        {
            "losses": [[entry["loss"] for entry in log if "loss" in entry] for log in logs],
            "weights": digests(out / "model"),
            "bits_per_byte": {code: entry["bits_per_byte"]["after"] for code, entry in results["languages"].items()},
        },
    )


def test_a_merge_gives_the_same_weights(base, make_model, tokenizer, tmp_path) -> None:
    other = make_model()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    other.to(torch.bfloat16).save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    compare("soup", {"weights": digests(lingraft.merge.soup([base, tmp_path / "other"], tmp_path / "soup"))})


def digests(model: Path) -> dict[str, str]:
    """SHA-256 of each file of weights."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(model.glob("*.safetensors"))}


def compare(name: str, found: dict[str, Any]) -> None:
    """With the record, in which they are written where that is asked for."""
    if WRITE:
        record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
        RECORD.write_text(json.dumps({"machine": MACHINE, **record, name: found}, indent=1, ensure_ascii=False) + "\n")
    else:
        assert found == GOLDEN[name]
