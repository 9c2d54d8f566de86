"""One optimizer step of the Trainer on eight blocks, and the gradients that it took; one process or two."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import transformers
from accelerate import PartialState
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import TrainerCallback

from command_line import FORKED, two_ranks
from lingraft.layer_groups import LayerRange
from lingraft.methods import METHODS, Adaptation
from lingraft.penalties import PENALTIES, PenaltyContext
from lingraft.training.arguments import training_arguments
from lingraft.training.batches import TrainingText
from lingraft.training.trainer import train

LANGUAGES = ["swh_Latn", "eng_Latn"]
LENGTHS = [16, 16, 9, 16, 5, 16, 12, 16]


def blocks() -> Dataset:
    """Eight blocks; tokens of old languages are unequally many in them, and none in one."""
    random = np.random.default_rng(0)
    marks = [random.random(n) < share for n, share in zip(LENGTHS, [0, 0.1, 0.9, 0.5, 1, 0.3, 0.7, 0.2], strict=True)]
    ids = [random.integers(0, 256, n).tolist() for n in LENGTHS]
    return Dataset.from_dict({"input_ids": ids, "languages": [mark.astype(int).tolist() for mark in marks]})


def plain_model() -> transformers.LlamaForCausalLM:
    """A tiny Llama whose weights bf16 can hold."""
    torch.manual_seed(0)
    shape = {"vocab_size": 258, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 64}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape, **heads))
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16).float()
    return model


def adapted(settings: dict[str, Any], double: bool = False) -> Adaptation:
    """A tiny Llama under a method, with noise on everything that starts at zero."""
    adaptation = METHODS[settings["method"]["name"]](**settings["method"]).apply(plain_model())
    with torch.no_grad():
        for name in adaptation.trainable:
            parameter = adaptation.model.get_parameter(name)
            parameter.add_(torch.randn_like(parameter) * 0.1)
    if double:
        adaptation.model.double()
    return adaptation


def penalty_context(adaptation: Adaptation, base: Path, max_length: int = 12, seed: int = 0) -> PenaltyContext:
    """What a penalty is prepared from, on a CPU in float32; token 256 stands before text."""
    tokenizer = SimpleNamespace(bos_ids=[256], eos_ids=[257])
    return PenaltyContext(
        adaptation, LayerRange(1, 1, 4), base, tokenizer, max_length, seed, torch.device("cpu"), autocast=None
    )


def gradients_of_a_step(settings: dict[str, Any], folder: Path) -> dict[str, Tensor]:
    """By name, as the optimizer got them."""
    taken: dict[str, Tensor] = {}

    class Take(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
            for name, parameter in getattr(model, "module", model).named_parameters():
                if parameter.requires_grad:
                    taken[name] = parameter.grad.detach().clone().float()

    adaptation = adapted(settings)
    defaults = {"per_device_train_batch_size": 2, "learning_rate": 1e-3, "logging_steps": 1}
    defaults |= {"max_steps": 1, "eval_strategy": "no", "use_cpu": True}
    arguments = training_arguments({**defaults, **settings["training"]}, folder, seed=0)
    given = settings.get("penalties", {})
    context = penalty_context(adaptation, Path(settings["base"])) if given else None
    pulls = [PENALTIES[name](**of).prepare(context) for name, of in given.items()]
    text = TrainingText(blocks(), LANGUAGES, ["swh_Latn"], {})
    outcome = train(adaptation, text, arguments, pulls, callbacks=[Take()])
    taken["log"] = torch.tensor([entry.get("local_l1", 0.0) for entry in outcome.log if "loss" in entry])
    return taken


def gradients_of_two_processes(settings: dict[str, Any], folder: Path) -> dict[str, Tensor]:
    """The same, of a step that two processes share."""
    processes = [FORKED.Process(target=_share, args=(rank, settings, folder)) for rank in two_ranks()]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        assert process.exitcode == 0
    return load_file(folder / "gradients.safetensors")


def _share(rank: dict[str, str], settings: dict[str, Any], folder: Path) -> None:
    os.environ.update(rank)
    torch.set_num_threads(1)
    gradients = gradients_of_a_step(settings, folder)
    if PartialState().is_main_process:
        save_file(gradients, folder / "gradients.safetensors")
    PartialState().wait_for_everyone()
    PartialState().destroy_process_group()


def assert_equal(got: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-4) -> None:
    """Gradients by name, each to a share of its norm; `got` may have a log."""
    assert got.keys() - {"log"} == expected.keys()
    for name, gradient in expected.items():
        error = (got[name] - gradient).norm() / gradient.norm()
        assert error < tolerance, (name, float(error))
