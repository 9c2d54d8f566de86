"""Tiny models, tokenizers and texts, made on the spot."""

from __future__ import annotations

import copy
import gc
import json
import os
import random
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing beyond this machine, whatever a test does
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"  # two test processes on two cores, and what they start
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each of a hundred processes compiles lingraft again

import pytest

if TYPE_CHECKING:  # torch takes seconds to load, and the tests of recipes, languages and layer groups need none
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from lingraft.corpus.tokenize import DocumentTokenizer


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import a file of integration tests for `-m unit`: most of them load torch and peft."""
    if config.option.markexpr != "unit" or collection_path.suffix != ".py":
        return None
    return bool(ALL_INTEGRATION.search(collection_path.read_text(encoding="utf-8"))) or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is neither an integration test nor one in a browser is a unit test; the longest begin first."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)
    for item in items:
        if not any(map(item.get_closest_marker, ("integration", "browser"))):
            item.add_marker(pytest.mark.unit)


ALL_INTEGRATION = re.compile(r"^pytestmark = \[?\s*pytest\.mark\.(integration|browser)", re.MULTILINE)
"""How a file says so of all its tests."""
DEPTH = 4
RETAINED = 30
"""Documents, enough to measure forgetting on."""
SPECIAL = ("<bos>", "<eos>")


def _config(architecture: str = "llama", tied: bool = False, **settings: Any) -> Any:
    from lingraft.architectures import ARCHITECTURES
    from tiny_architectures import tiny_config

    shape = {
        "vocab_size": 258,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 64,
        "bos_token_id": 256,
        "eos_token_id": 257,
        "pad_token_id": None,
        "tie_word_embeddings": tied,
    }
    shape |= settings
    if ARCHITECTURES[architecture].language_model:  # with a vision tower that has layers of its own
        return tiny_config(architecture, shape, tie_word_embeddings=tied)
    return tiny_config(architecture, shape)


@pytest.fixture(scope="session")
def make_model() -> Callable[..., PreTrainedModel]:
    """A factory of tiny models with weights large enough that every tensor matters."""
    import torch
    import transformers

    gc.collect()
    gc.freeze()  # a training collects, and needs not go through all that was imported
    made: dict[str, tuple[PreTrainedModel, torch.Tensor]] = {}

    def make(architecture: str = "llama", tied: bool = False, **settings: Any) -> PreTrainedModel:
        kind = f"{architecture} {tied} {settings}"
        if kind not in made:
            torch.manual_seed(0)
            model = transformers.AutoModelForCausalLM.from_config(_config(architecture, tied, **settings))
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(torch.randn_like(parameter) * 0.05)
            made[kind] = model.eval(), torch.get_rng_state()
        model, state = made[kind]
        torch.set_rng_state(state)  # later draws are as if it were made anew
        return copy.deepcopy(model)

    return make


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes as tokens, with BOS 256 and EOS 257."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token=SPECIAL[0], eos_token=SPECIAL[1])


@pytest.fixture(scope="session")
def documents(tokenizer: PreTrainedTokenizerFast) -> DocumentTokenizer:
    """The same tokenizer, with BOS before a document and EOS after it."""
    from lingraft.corpus.tokenize import DocumentTokenizer

    return DocumentTokenizer(tokenizer, *SPECIAL)


@pytest.fixture(scope="session")
def write_base(
    make_model: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerFast
) -> Callable[[Path], Path]:
    """Writes a folder with a tiny Llama in bf16, untied, and its tokenizer."""
    import torch

    def write(folder: Path) -> Path:
        make_model().to(torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return write


@pytest.fixture
def base(tmp_path: Path, write_base: Callable[[Path], Path]) -> Path:
    """A folder with a tiny Llama and its tokenizer."""
    return write_base(tmp_path / "base")


def _sentences(seed: int, words: list[str], count: int) -> Iterator[str]:
    draw = random.Random(seed)
    for _ in range(count):
        yield " ".join(draw.choice(words) for _ in range(draw.randint(8, 30))) + "."


WORDS = {
    "swh_Latn": "watu nyumba maji moto kitabu shule mtoto mama baba jua mwezi samaki",
    "eng_Latn": "people house water fire book school child mother father sun moon fish",
    "spa_Latn": "gente casa agua fuego libro escuela niño madre padre sol luna pez",
}


def write_texts(folder: Path, retained: int = 80) -> dict[str, Path]:
    """A JSON Lines file for each of three languages: 80 documents of Swahili, so many of the retained ones."""
    paths = {}
    for seed, (code, words) in enumerate(WORDS.items()):
        paths[code] = folder / f"{code}.jsonl"
        sentences = _sentences(seed, words.split(), 80 if code == "swh_Latn" else retained)
        lines = (json.dumps({"text": text}, ensure_ascii=False) for text in sentences)
        paths[code].write_text("\n".join(lines) + "\n", encoding="utf-8")
    return paths


@pytest.fixture
def texts(tmp_path: Path) -> dict[str, Path]:
    """Text of three languages."""
    return write_texts(tmp_path, RETAINED)


@pytest.fixture
def recipe(base: Path, texts: dict[str, Path]) -> dict[str, Any]:
    """A good recipe that runs in seconds."""
    return recipe_of(base, texts)


@pytest.fixture(scope="module")
def shared_recipe(tmp_path_factory: pytest.TempPathFactory, write_base: Callable[[Path], Path]) -> dict[str, Any]:
    """As `recipe`, of files that all tests of a module read."""
    folder = tmp_path_factory.mktemp("shared")
    return recipe_of(write_base(folder / "base"), write_texts(folder, RETAINED))


def recipe_of(base: Path, texts: dict[str, Path]) -> dict[str, Any]:
    """Swahili learned, English and Spanish retained."""
    return {
        "base": str(base),
        "languages": {"learn": ["swh_Latn"], "retain": ["eng_Latn", "spa_Latn"]},
        "max_length": 32,
        "corpus": [{"language": "swh_Latn", "files": str(texts["swh_Latn"]), "tokens": 2000}],
        "validation": {"share": 0.1, "blocks": 4},
        "method": {"name": "layra", "first": 2, "last": 1, "rank": 2},
        "training": {
            "per_device_train_batch_size": 4,
            "learning_rate": 3e-3,
            "logging_steps": 5,
            "eval_steps": 10,
            "save_steps": 20,
        },
        "evaluation": {"num_samples": 0, "text": {code: str(texts[code]) for code in ("eng_Latn", "spa_Latn")}},
    }


@pytest.fixture(scope="session")
def chat_base(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A tiny Llama with a longer context and a chat template, made once."""
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(_config(max_position_embeddings=512)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    return folder


@pytest.fixture
def run_cli(monkeypatch, capsys):
    """Run a command in this process; gives its exit code, standard output and standard error."""
    from lingraft.cli import main

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lingraft", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        return end.value.code or 0, printed.out, printed.err

    return call
