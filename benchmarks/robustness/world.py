"""A folder of valid inputs: tiny models, texts in every format, questions, instructions, and recipes that use them.

Paths are relative to the folder, so that a command reads them from a copy.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import yaml
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = {
    "swh_Latn": ["watu", "nyumba", "maji", "moto", "kitabu", "shule", "mama", "baba", "jua", "mwezi"],
    "eng_Latn": ["people", "house", "water", "fire", "book", "school", "mother", "father", "sun", "moon"],
}
CHAT_TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "
TRAINING = {
    "max_steps": 2,
    "per_device_train_batch_size": 2,
    "logging_steps": 1,
    "eval_steps": 2,
    "save_steps": 1,
    "learning_rate": 1e-3,
    "use_cpu": True,
}


def make_world(folder: Path) -> None:
    """Fill a folder with all that commands read."""
    _make_models(folder)
    _make_texts(folder)
    (folder / "chat.jinja").write_text(CHAT_TEMPLATE)
    for name, recipe in RECIPES.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe(), sort_keys=False))


def _make_models(folder: Path) -> None:
    """`base`, two models that grew out of it, and an adapter on it."""
    shape: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "vocab_size": 258}
    heads: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 128}
    config = LlamaConfig(**shape, **heads, bos_token_id=256, eos_token_id=257, tie_word_embeddings=False)
    tokenizer = _tokenizer()
    for seed, name in enumerate(("base", "adapted", "other")):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).to(torch.bfloat16)
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    base = LlamaForCausalLM.from_pretrained(folder / "base")
    adapter = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    adapter.peft_config["default"].base_model_name_or_path = "base"
    adapter.save_pretrained(folder / "adapter")


def _tokenizer() -> PreTrainedTokenizerFast:
    """Bytes as tokens, with BOS 256 and EOS 257."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(["<bos>", "<eos>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<bos>", eos_token="<eos>", chat_template=CHAT_TEMPLATE
    )


def _make_texts(folder: Path) -> None:
    draw = random.Random(0)

    def sentence(language: str, words: int = 8) -> str:
        return " ".join(draw.choice(WORDS[language]) for _ in range(words)) + "."

    for language in WORDS:
        documents = [sentence(language, 16) for _ in range(40)]
        write_lines(folder / f"{language}.jsonl", ({"text": text} for text in documents))
        write_lines(folder / f"few-{language}.jsonl", ({"text": text} for text in documents[:4]))
    (folder / "swh_Latn.txt").write_text("\n\n".join(sentence("swh_Latn") for _ in range(40)))
    (folder / "swh_Latn.jsonl.gz").write_bytes(gzip.compress((folder / "swh_Latn.jsonl").read_bytes()))
    write_lines(
        folder / "pairs.jsonl", ({"swh": sentence("swh_Latn", 3), "eng": sentence("eng_Latn", 3)} for _ in range(30))
    )
    write_lines(
        folder / "questions.jsonl",
        ({"context": sentence("eng_Latn", 3), "choices": [" sun.", " moon."], "answer": i % 2} for i in range(4)),
    )
    write_lines(
        folder / "instructions.jsonl",
        ({"instruction": sentence("eng_Latn", 2), "input": "", "output": sentence("eng_Latn", 3)} for _ in range(20)),
    )
    write_lines(folder / "messages.jsonl", (_conversation(sentence) for _ in range(20)))


def _conversation(sentence: Any) -> dict[str, Any]:
    said = [("user", sentence("swh_Latn", 2)), ("assistant", sentence("swh_Latn", 3))]
    return {"messages": [{"role": role, "content": content} for role, content in said]}


def write_lines(path: Path, records: Iterable[Any]) -> None:
    """Write JSON Lines."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def plain_recipe() -> dict[str, Any]:
    """One training on text."""
    return {
        "base": "base",
        "languages": {"learn": ["swh_Latn"], "retain": ["eng_Latn"]},
        "max_length": 32,
        "corpus": [{"language": "swh_Latn", "files": "swh_Latn.jsonl", "tokens": 1000}],
        "validation": {"share": 0.1, "blocks": 2, "selection_share": 0.5},
        "method": {"name": "lora", "rank": 2},
        "training": dict(TRAINING),
        "early_stopping": {"patience": 3},
        "evaluation": {
            "text": {"eng_Latn": "few-eng_Latn.jsonl"},
            "tasks": {"cloze": {"eng_Latn": "questions.jsonl"}},
            "num_samples": 0,
        },
        "seed": 1,
    }


def staged_recipe() -> dict[str, Any]:
    """New tokens, pairs, then text with self-generated replay, and a limit on what is forgotten."""
    recipe = plain_recipe()
    corpus, training = recipe.pop("corpus"), recipe.pop("training")
    for key in ("method", "early_stopping"):
        del recipe[key]
    pairs = {"parallel": {"eng_Latn": "eng", "swh_Latn": "swh"}, "files": "pairs.jsonl"}
    return {
        **recipe,
        "vocabulary": {"new_tokens": 8, "init": "subtoken-mean"},
        "stages": {
            "align": {"corpus": [pairs], "method": {"name": "embeddings"}, "training": dict(training)},
            "adapt": {
                "corpus": corpus,
                "method": {"name": "layra", "first": 1, "last": 1, "rank": 2},
                "replay": {"self_generated": 0.3, "batch_size": 4, "top_k": 4},
                "penalties": {"l2sp": {"first": 1, "last": 1}},
                "training": training,
            },
        },
        "merge": [{"max_forgetting": 0.05, "first": 1, "last": 1}],
    }


def instruct_recipe() -> dict[str, Any]:
    """One training on instructions, in both forms."""
    recipe = plain_recipe()
    for key in ("corpus", "early_stopping"):
        del recipe[key]
    recipe["evaluation"]["text"]["swh_Latn"] = "few-swh_Latn.jsonl"
    recipe["validation"] = {"blocks": 2}
    entries = [("eng_Latn", "instructions.jsonl"), ("swh_Latn", "messages.jsonl")]
    return {
        **recipe,
        "instructions": [{"language": code, "files": files} for code, files in entries],
        "chat_template": "chat.jinja",
        "max_length": 128,
    }


RECIPES = {"plain": plain_recipe, "staged": staged_recipe, "instruct": instruct_recipe}


def commands() -> dict[str, list[str]]:
    """A valid command line of every kind; `report` is of the run that `run` leaves."""
    text = ["--text", "swh_Latn=few-swh_Latn.jsonl", "--text", "eng_Latn=few-eng_Latn.jsonl"]
    layers = ["--layers", "first=1,last=1"]
    merged = {
        "vectors": ["adapted:0.5", "other:0.5", "--base", "base"],
        "vectors of adapters": ["adapter:0.5", "--base", "base", "--adapter"],
        "soup": ["adapted", "other:2", "base"],
        "ties": ["adapted:1", "other:1", "--base", "base", "--density", "0.5"],
        "dare": ["adapted:1", "other:1", "--base", "base", "--density", "0.5", "--seed", "3"],
        "revert": ["adapted", "--base", "base", *layers],
        "interpolate": ["adapted", "--base", "base", *layers, "--scale", "middle=0.25"],
        "instruct": ["adapted", "--base", "base", "--instruct", "other", "--scale", "0.7"],
    }
    return {
        "init": ["init", "--base", "base", "--learn", "swh_Latn", "--retain", "eng_Latn", "--out", "new.yaml"],
        **{f"run {name} --dry-run": ["run", f"{name}.yaml", "--out", "out", "--dry-run"] for name in RECIPES},
        "evaluate": [
            *("evaluate", "adapted", "--against", "base", *text, "--learn", "swh_Latn", "--out", "measured.json"),
            *("--task", "cloze:eng_Latn=questions.jsonl", "--max-length", "32"),
        ],
        "fertility": ["tokenizer", "fertility", "base", *text, "--out", "fertility.json"],
        "extend": ["tokenizer", "extend", "base", "--text", "swh_Latn.jsonl", "--tokens", "8", "--out", "extended"],
        **{f"merge {name}": ["merge", name.split()[0], *rest, "--out", "merged"] for name, rest in merged.items()},
        "run": ["run", "plain.yaml", "--out", "run"],
        "report": ["report", "run", "measured.json", "fertility.json", "--out", "page.html"],
    }
