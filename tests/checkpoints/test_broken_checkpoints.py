"""Wrong input to a merge: exit code 2, one message that names it, nothing written."""

from __future__ import annotations

import json
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors.numpy import save_file

from lingraft import cli
from lingraft.checkpoints.check import check_model
from lingraft.checkpoints.read import read_model
from lingraft.errors import ModelError

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("error::RuntimeWarning"),  # a user would see it before the message
]

Spoil = Callable[[], object]

ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "shards/model.safetensors.index.json"
QUERY, KEY = (f"model.layers.1.self_attn.{linear}_proj.weight" for linear in "qk")
NAN, INF, MINUS_INF, HUGE = 0x7FC0, 0x7F80, 0xFF80, 0x7F00
"""Of bfloat16."""


@pytest.fixture(scope="session")
def originals(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("originals")


@pytest.fixture
def work(tmp_path, monkeypatch, originals, make_model, tokenizer) -> Path:
    """The working directory: `base`, `a`, `b`, the same in `shards`, and models that do not go with them."""
    kinds: dict[str, dict[str, Any]] = {name: {} for name in ("base", "a", "b", "shards")}
    kinds |= {"wide": {"intermediate_size": 64}, "deep": {"num_hidden_layers": 6}, "tied": {"tied": True}}
    kinds |= {"qwen": {"architecture": "qwen2"}, "padded": {"vocab_size": 260}}
    for seed, (name, settings) in enumerate(kinds.items()):
        if (originals / name).exists():
            continue
        model = make_model(**settings)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.02)
        size = "60KB" if name == "shards" else "1GB"
        model.to(torch.bfloat16).save_pretrained(originals / name, max_shard_size=size)
        tokenizer.save_pretrained(originals / name)
    shutil.copytree(originals, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def everything(folder: Path) -> dict[str, bytes | str]:
    """Files, folders and links below a folder, and what they hold."""
    return {
        str(path): str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"
        for path in folder.rglob("*")
    }


@pytest.fixture
def run_merge(work, monkeypatch, capsys) -> Callable[..., tuple[int, str]]:
    """Merge by the command line, in this process; gives its exit code and standard error."""

    def call(arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["lingraft", "merge", *arguments.split()])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, capsys.readouterr().err

    return call


@pytest.fixture
def refused(run_merge, tmp_path) -> Callable[[str], str]:
    """Run a merge that must be refused; gives the message."""

    def call(arguments: str) -> str:
        before = everything(tmp_path)
        code, error = run_merge(arguments)
        assert code == 2
        assert error.startswith("error: ")
        assert len(error.splitlines()) == 1
        assert everything(tmp_path) == before
        return error

    return call


# How a checkpoint breaks; all paths are below the working directory.


def cut(file: str, size: int) -> Spoil:
    return lambda: Path(file).write_bytes(Path(file).read_bytes()[:size])


def remove(file: str) -> Spoil:
    return lambda: Path(file).unlink()


def write(file: str, content: str | bytes) -> Spoil:
    def spoil() -> None:
        Path(file).parent.mkdir(exist_ok=True)
        Path(file).write_bytes(content.encode() if isinstance(content, str) else content)

    return spoil


def edit(file: str, change: Callable[[Any], object]) -> Spoil:
    """Change what a JSON file holds, in place."""

    def spoil() -> None:
        held = json.loads(Path(file).read_text())
        change(held)
        Path(file).write_text(json.dumps(held))

    return spoil


def shard_of_head(name: object) -> Spoil:
    return edit(INDEX, lambda index: index["weight_map"].update({"lm_head.weight": name}))


def header(change: Callable[[dict[str, Any]], object], file: str = "a/model.safetensors") -> Spoil:
    """Change the header of a safetensors file."""

    def spoil() -> None:
        held = Path(file).read_bytes()
        end = 8 + int.from_bytes(held[:8], "little")
        entries = json.loads(held[8:end])
        change(entries)
        Path(file).write_bytes(with_header(json.dumps(entries).encode(), held[end:]))

    return spoil


def with_header(text: bytes, data: bytes = bytes(64)) -> bytes:
    return len(text).to_bytes(8, "little") + text + data


def without(name: str, file: str = "a/model.safetensors") -> Spoil:
    """A file that lacks a tensor, and is whole otherwise."""

    def spoil() -> None:
        kept = {held: of for held, of in safetensors.torch.load_file(file).items() if held != name}
        safetensors.torch.save_file(kept, file, {"format": "pt"})

    return spoil


def entry(**changes: Any) -> Spoil:
    """Change what the header says of one tensor."""
    return header(lambda entries: entries[QUERY].update(changes))


def overlap(entries: dict[str, Any]) -> None:
    other = next(
        tensor
        for name, tensor in entries.items()
        if name not in (QUERY, "__metadata__") and tensor["shape"] == entries[QUERY]["shape"]
    )
    entries[QUERY]["data_offsets"] = other["data_offsets"]


def bits(folder: str, of_one: int, tensor: str = QUERY, file: str = "model.safetensors") -> Spoil:
    """Give one weight of a tensor these bits."""

    def spoil() -> None:
        held = bytearray((Path(folder) / file).read_bytes())
        end = 8 + int.from_bytes(held[:8], "little")
        struct.pack_into("<H", held, end + json.loads(held[8:end])[tensor]["data_offsets"][0] + 2 * 37, of_one)
        (Path(folder) / file).write_bytes(held)

    return spoil


def more_tokens(*folders: str) -> Spoil:
    """A tokenizer with a token beyond the rows of the embeddings."""

    def spoil() -> None:
        for folder in folders:
            edit(f"{folder}/tokenizer.json", lambda tokens: tokens["model"]["vocab"].update(zz=300))()

    return spoil


def adapter(tensors: dict[str, Any] | None = None, **settings: Any) -> Spoil:
    """A LoRA adapter of `base` in the folder `ad`."""

    def spoil() -> None:
        config = {"peft_type": "LORA", "base_model_name_or_path": "base", "r": 2, "lora_alpha": 4, "bias": "none"}
        write("ad/adapter_config.json", json.dumps(config | settings))()
        factors = {"lora_A": np.full((2, 32), 0.01, np.float32), "lora_B": np.full((32, 2), 0.01, np.float32)}
        named = {f"base_model.model.{QUERY.replace('weight', side)}.weight": of for side, of in factors.items()}
        save_file(named if tensors is None else tensors, "ad/adapter_model.safetensors")

    return spoil


def factor(side: str, numbers: Any, layer: int = 1) -> dict[str, Any]:
    return {f"base_model.model.model.layers.{layer}.self_attn.q_proj.{side}.weight": np.array(numbers, np.float32)}


OF_ONES = np.full((2, 32), 0.01)
ONE_NAN = np.where(np.arange(64).reshape(2, 32) == 37, np.nan, OF_ONES)


def nothing() -> None:
    """The input is wrong as it is."""


FILES: dict[str, tuple[Spoil, str, str]] = {
    "a shard cut short": (
        cut(f"shards/{TWO}", 9000),
        "soup shards a",
        f"shards/{TWO}: the file was cut short or added to: 9,000",
    ),
    "a file cut in its header": (cut("a/model.safetensors", 900), "soup a", "a/model.safetensors: this is not"),
    "an empty file": (cut("a/model.safetensors", 0), "soup a", "a/model.safetensors: this is not a safetensors file"),
    "a missing shard": (remove(f"shards/{ONE}"), "soup shards", f"shards: the shard {ONE} is missing; fetch it again"),
    "a shard above the folder": (shard_of_head("../../x"), "soup shards", "it names '../../x', which is not a file of"),
    "a shard anywhere": (shard_of_head("/etc/passwd"), "soup shards", "it names '/etc/passwd', which is not a file of"),
    "a shard that is the folder above": (shard_of_head(".."), "soup shards", f"{INDEX}: it names '..'"),
    "a shard that is a number": (shard_of_head(7), "soup shards", f"{INDEX}: it names '7'"),
    "a shard without the tensor": (shard_of_head(ONE), "soup shards", f"'lm_head.weight' is not in {ONE}, where"),
    "an index that is no JSON": (write(INDEX, "{nope"), "soup shards", f"{INDEX}: this is not an index of shards"),
    "an index that is a list": (write(INDEX, "[1]"), "soup shards", f"{INDEX}: this is not an index of shards"),
    "an index of no shards": (write(INDEX, '{"weight_map": {}}'), "soup shards", "shards"),
    "pickles alone": (
        lambda: Path("a/model.safetensors").rename("a/pytorch_model.bin"),
        "soup a",
        "a: there are only pickled weights, and a pickle can run any code when it is opened",
    ),
    "no weights": (remove("a/model.safetensors"), "soup a", "a: there are no weights"),
    "no config": (remove("a/config.json"), "soup a", "'a' is a folder without config.json"),
    "a config that is no JSON": (write("a/config.json", "{"), "soup a", "a/config.json is not JSON; fetch it again"),
    "a config that is a list": (write("a/config.json", "[]"), "soup a", "a/config.json holds no object"),
    "an architecture that is not supported": (
        edit("a/config.json", lambda config: config.update(model_type="mamba")),
        "soup a",
        "a: architecture 'mamba' is not supported; supported model types: llama",
    ),
    "quantized weights": (
        edit("a/config.json", lambda config: config.update(quantization_config={"bits": 4})),
        "soup a",
        "a: quantized weights cannot be combined",
    ),
    "a header longer than any": (
        write("a/model.safetensors", (2**63).to_bytes(8, "little") + bytes(64)),
        "soup a",
        "a/model.safetensors: this is not a safetensors file",
    ),
    "a header that is no JSON": (write("a/model.safetensors", with_header(b"\xff{")), "soup a", "is not a safetensors"),
    "a header that is a list": (write("a/model.safetensors", with_header(b"[1]")), "soup a", "is not a safetensors"),
    "a header of lists in lists": (
        write("a/model.safetensors", with_header(b"[" * 200_000)),
        "soup a",
        "a/model.safetensors: this is not a safetensors file",
    ),
    "no tensor": (write("a/model.safetensors", with_header(b"{}", b"")), "soup a", "a"),
    "a tensor that is a number": (write("a/model.safetensors", with_header(b'{"x": 7}')), "soup a", "is damaged"),
    "offsets below 0": (entry(data_offsets=[-2048, 0]), "soup a", "a/model.safetensors: the header of this"),
    "offsets that end before they start": (entry(data_offsets=[2048, 0]), "soup a", "a/model.safetensors: the header"),
    "offsets that are not whole": (entry(data_offsets=[0.0, 2048.0]), "soup a", "a/model.safetensors: the header"),
    "offsets beyond the end": (
        entry(data_offsets=[2**40, 2**40 + 2048]),
        "soup a",
        "a/model.safetensors: the header of this safetensors file is damaged",
    ),
    "offsets that overlap": (header(overlap), "soup a", "a/model.safetensors: the header of this safetensors file"),
    "a shape below 0": (entry(shape=[-32, -32]), "soup a", "a/model.safetensors: the header of this safetensors file"),
    "a shape that is not whole": (entry(shape=[32.0, 32.0]), "soup a", "a/model.safetensors: the header of this"),
    "a shape that is text": (entry(shape="32"), "soup a", "a/model.safetensors: the header of this safetensors file"),
    "whole numbers": (entry(dtype="I8"), "soup a", f"tensor '{QUERY}' has weights of type I8; supported are BF16, F16"),
    "double precision": (entry(dtype="F64"), "soup a", f"tensor '{QUERY}' has weights of type F64; supported are BF16"),
    "embeddings that are missing": (
        without("model.embed_tokens.weight"),
        "soup a",
        "embed_tokens",
    ),
    "a head that is missing": (without("lm_head.weight"), "soup a", "lm_head"),
    "a linear that is missing": (without(QUERY), "soup a", "layers.1.self_attn.q_proj"),
    "settings of a tokenizer that are no JSON": (
        write("a/tokenizer_config.json", b"\xff\xfe"),
        "soup a b",
        "tokenizer_config.json is not JSON; fetch it again",
    ),
    "a tokenizer that is no JSON": (
        write("a/tokenizer.json", "{"),
        "soup a b",
        "a/tokenizer.json: the tokenizer cannot",
    ),
    "ids beyond the rows": (
        more_tokens("a"),
        "soup a b",
        "a: its tokenizer has ids up to 300, its embeddings have 258",
    ),
    "ids beyond the rows in all": (more_tokens("a", "b"), "soup a b", "its tokenizer has ids up to 300"),
}


@pytest.mark.parametrize(("spoil", "command", "message"), FILES.values(), ids=FILES)
def test_a_broken_file_is_named_and_nothing_is_written(refused, spoil, command, message) -> None:
    spoil()
    assert message in refused(f"{command} --out out")


OTHERS = {
    "another width": (
        "soup a wide",
        "wide: tensor 'model.layers.0.mlp.down_proj.weight' in model.safetensors has shape",
    ),
    "more layers": ("soup a deep", "a has no tensor 'model.layers.4.input_layernorm.weight' and 17 more, deep has"),
    "fewer layers": ("soup deep a", "a has no tensor 'model.layers.4.input_layernorm.weight' and 17 more, deep has"),
    "another architecture": ("vectors qwen --base base", "model_type is 'llama' and 'qwen2'"),
    "tied embeddings": ("soup a tied", "tied uses its embeddings as its head, a has a head of its own"),
}


@pytest.mark.parametrize(("command", "message"), OTHERS.values(), ids=OTHERS)
def test_models_that_do_not_fit_each_other_are_refused(refused, command, message) -> None:
    assert message in refused(f"{command} --out out")


OTHER_SETTINGS = {
    "rms_norm_eps": {"rms_norm_eps": 1e-5},
    "hidden_act": {"hidden_act": "gelu"},
    "rope_parameters": {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
    "rope_parameters of an older config": {"rope_theta": 500000.0, "rope_parameters": None},
}


@pytest.mark.parametrize(("key", "settings"), OTHER_SETTINGS.items(), ids=OTHER_SETTINGS)
def test_models_of_the_same_tensors_that_compute_otherwise_are_refused_unless_forced(
    refused, run_merge, key, settings
) -> None:
    def change(config: dict[str, Any]) -> None:
        config.update(settings)
        if config["rope_parameters"] is None:
            del config["rope_parameters"]

    edit("a/config.json", change)()
    error = refused("soup a b --out out")
    assert f"a and b are different models: {key.split()[0]} is" in error
    assert "--force" in error
    for command in ("soup a b", "vectors a --base b", "ties a --base b", "dare a --base b"):
        shutil.rmtree("out", ignore_errors=True)
        assert run_merge(f"{command} --force --out out")[0] == 0, command


SAME_SETTINGS: dict[str, Callable[[dict[str, Any]], object]] = {
    "the form of transformers 4": lambda of: of.update(rope_theta=of.pop("rope_parameters")["rope_theta"]),
    "the older names of a scaling": lambda of: of.update(
        rope_theta=of.pop("rope_parameters")["rope_theta"], rope_scaling={"type": "default"}
    ),
    "a switch that is off and not said": lambda of: of.pop("mlp_bias"),
    "what is of training": lambda of: of.update(initializer_range=0.5, attention_dropout=0.1),
    "ids and length": lambda of: of.update(eos_token_id=[257, 256], max_position_embeddings=128),
    "a key that no library knows": lambda of: of.update(unsloth_version="2026.1"),
}


@pytest.mark.parametrize("change", SAME_SETTINGS.values(), ids=SAME_SETTINGS)
def test_models_that_compute_the_same_are_combined_however_their_configs_say_it(run_merge, change) -> None:
    edit("a/config.json", change)()
    code, error = run_merge("soup a b --out out")
    assert (code, "different" in error) == (0, False)


DISAGREE = {
    "layers": ({"num_hidden_layers": 3}, "config.json has num_hidden_layers 3, the files hold 4 layers"),
    "more layers": ({"num_hidden_layers": 5}, "config.json has num_hidden_layers 5, the files hold 4 layers"),
    "rows": ({"vocab_size": 300}, "has shape [258, 32], config.json makes it [300, 32]"),
    "width": ({"hidden_size": 64}, "has shape [258, 32], config.json makes it [258, 64]"),
    "blocks": ({"intermediate_size": 64}, "has shape [32, 48], config.json makes it [32, 64]"),
    "heads": ({"num_attention_heads": 1}, "has shape [32, 32], config.json makes it [32, 16]"),
    "biases that are not there": ({"attention_bias": True}, "'layers.0.self_attn.q_proj.bias' is missing"),
    "a number of layers of no model": ({"num_hidden_layers": 2**31}, "a/config.json: num_hidden_layers is 2147483648"),
    "a number of rows of no model": ({"vocab_size": 10**12}, "a/config.json: vocab_size is 1000000000000"),
}


@pytest.mark.parametrize(("settings", "message"), DISAGREE.values(), ids=DISAGREE)
def test_a_config_and_files_that_disagree_are_refused_by_every_command(refused, settings, message) -> None:
    edit("a/config.json", lambda config: config.update(settings))()
    assert message in refused("soup a b --out out")
    with pytest.raises(ModelError) as error:
        read_model(Path("a"))
    assert message in str(error.value)
    with pytest.raises(ModelError) as error:
        check_model(Path("a"))
    assert message in str(error.value)


def test_rows_are_not_matched_by_position_where_their_numbers_differ(refused) -> None:
    Path("a/tokenizer.json").unlink()
    Path("a/tokenizer_config.json").unlink()
    error = refused("soup a padded --out out")
    assert "a has no tokenizer, and the parents have different numbers of rows (a 258, padded 260)" in error
    assert "put its tokenizer's files into its folder" in error


COMMANDS = {
    "soup of one": "soup a",
    "soup of two": "soup b a",
    "soup in another type": "soup a --dtype float32",
    "vectors": "vectors a:0.5 --base base",
    "one whole vector": "vectors a --base base",
    "ties": "ties a b --base base",
    "ties of all weights": "ties a b --base base --density 1",
    "dare": "dare a b --base base --density 0.1",
    "revert": "revert a --base base --layers first=2,last=1",
    "interpolate": "interpolate a --base base --layers first=2,last=1 --scale middle=0.5",
    "instruct": "instruct b --base base --instruct a --scale 0.5",
}


@pytest.mark.parametrize("of_one", [NAN, INF, MINUS_INF], ids=["NaN", "Inf", "-Inf"])
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_weight_that_is_no_number_is_named_with_its_tensor_and_file(refused, command, of_one) -> None:
    bits("a", of_one)()
    error = refused(f"{command} --out out")
    assert f"a: tensor '{QUERY}' in a/model.safetensors holds NaN or Inf" in error


@pytest.mark.parametrize(
    "command", ["vectors a:0.5 --base base", "ties a b --base base", "dare a --base base", "instruct a --instruct b"]
)
def test_a_weight_of_the_base_that_is_no_number_is_named(refused, command) -> None:
    bits("base", NAN)()
    command += " --base base --scale 0.5" if command.startswith("instruct") else ""
    assert f"base: tensor '{QUERY}' in base/model.safetensors holds NaN or Inf" in refused(f"{command} --out out")


def test_the_shard_of_a_weight_that_is_no_number_is_named(refused) -> None:
    bits("shards", NAN, "lm_head.weight", TWO)()
    assert f"shards: tensor 'lm_head.weight' in shards/{TWO} holds NaN or Inf" in refused("soup shards a --out out")


@pytest.mark.parametrize(
    "command", ["vectors ad --base base", "ties ad b --base base", "soup ad b", "vectors ad --base base --adapter"]
)
def test_a_factor_of_an_adapter_that_is_no_number_is_named(refused, command) -> None:
    adapter(factor("lora_A", ONE_NAN) | factor("lora_B", OF_ONES.T))()
    error = refused(f"{command} --out out")
    assert "q_proj.lora_A.weight' in ad/adapter_model.safetensors holds NaN or Inf" in error


OVERFLOWS = {
    "a copy in float16": "soup a --dtype float16",
    "vectors in float16": "vectors a:1e9 --base base --dtype float16",
    "ties in float16": "ties a --base base --scale 1e9 --dtype float16",
    "vectors beyond every type": "vectors a:3e38 --base base",
    "ties beyond every type": "ties a --base base --scale 3e38",
    "dare beyond every type": "dare a --base base --scale 3e38",
}


@pytest.mark.parametrize("command", OVERFLOWS.values(), ids=OVERFLOWS)
def test_a_result_beyond_the_range_of_its_type_is_refused(refused, command) -> None:
    bits("a", HUGE, KEY)()
    error = refused(f"{command} --out out")
    assert "of the result has weights beyond" in error
    assert "lower the scales or ask for --dtype float32" in error


OUTPUTS: dict[str, tuple[Spoil, str, str]] = {
    "a file": (write("out", "x"), "out", "--out out is a file; give a folder"),
    "a folder of something else": (
        write("out/thesis.tex", "x"),
        "out",
        "/out is not empty and not an earlier merge (it holds thesis.tex); give a new folder",
    ),
    "a model": (lambda: shutil.copytree("b", "out"), "out", "/out is not empty and not an earlier merge"),
    "a parent": (nothing, "a", "/a is a, which is read; give another place"),
    "a parent by another path": (nothing, "../work/b/", "/b is b, which is read"),
    "a parent by a link": (lambda: Path("out").symlink_to("b"), "out", "/b is b, which is read"),
    "a folder above a parent": (nothing, "../work", " holds a, which is read"),
    "here": (nothing, ".", " holds a, which is read"),
    "below a file": (nothing, "a/config.json/out", "a/config.json is a file"),
    "a folder with a broken record": (write("out/lingraft.json", "{"), "out", "/out is not empty and not an"),
    "a folder with a record of nothing": (write("out/lingraft.json", "3"), "out", "/out is not empty and not an"),
    "a name that is too long": (nothing, "x" * 300, "x" * 300),
}


@pytest.mark.parametrize(("make", "out", "message"), OUTPUTS.values(), ids=OUTPUTS)
def test_an_output_that_is_not_ours_is_refused_and_left_alone(refused, make, out, message) -> None:
    make()
    assert message in refused(f"soup a b --out {out}")


def test_a_refused_merge_makes_no_folder_above_its_output(refused) -> None:
    bits("a", NAN)()
    refused("soup a --out new/deep/out")


def test_a_refused_merge_leaves_the_earlier_one_as_it_was(refused, run_merge) -> None:
    assert run_merge("soup a b --out out")[0] == 0
    bits("a", NAN)()
    refused("soup a b --out out")


ARGUMENTS = {
    "soup a a": "a is given twice; give it once, with the sum of the weights",
    "soup a ./a": "a and ./a are one folder; give it once",
    "soup a b/../a": "a and b/../a are one folder; give it once",
    "vectors a:0.5 a:0.5 --base base": "a is given twice",
    "soup a:abc b": "a:abc: 'abc' is not a number",
    "soup a: b": "a: has no weight after the colon; give a, or a:0.5",
    "soup :0.5 b": "':0.5': give a model and its weight, as in swahili:0.5",
    "soup a:nan b": "a:nan: this must be a finite number",
    "soup a:inf b": "a:inf: this must be a finite number",
    "soup a:0 b": "a:0: a weight must be above 0 here",
    "soup a:-1 b": "a:-1: a weight must be above 0 here",
    "soup a:1e308 b:1e308": "1e+308",
    "ties a:0 b --base base": "a:0: a weight must be above 0 here",
    "ties a:-1 b --base base": "a:-1: a weight must be above 0 here",
    "vectors a:nan --base base": "a:nan: this must be a finite number",
    "ties a b --base base --density 0": "--density 0.0: the share of elements to keep must be above 0",
    "ties a b --base base --density 1.5": "--density 1.5: the share of elements",
    "ties a b --base base --density nan": "--density nan: the share of elements",
    "ties a b --base base --scale nan": "--scale nan: this must be a finite number",
    "dare a b --base base --density 0": "--density 0.0: the share of elements",
    "instruct a --base base --instruct b --scale inf": "--scale inf: this must be a finite number",
    "revert a --base base --layers first=3,last=2": "first=3 and last=2 are 5 layers, but the model has 4",
    "revert a --base base --layers first=0,last=0": "selects no layer; the model has 4 layers, take at least one",
    "revert a --base base --layers first=1": "--layers first=1: give numbers of layers, as in --layers first=9,last=6",
    "revert a --base base --layers first=-1,last=1": "--layers first=-1,last=1: give numbers of layers",
    "revert a --base base --layers first=²,last=1": "--layers first=²,last=1: give numbers of layers",
    "revert a --base base --layers first=1,first=2,last=1": "a name is given twice",
    "interpolate a --base base --layers first=1,last=1 --scale midle=1": (
        "scale of 'midle': the model has no such layer group (did you mean 'middle'?); it has embeddings"
    ),
    "interpolate a --base base --layers first=1,last=1 --scale middle": "this option is a list of NAME=NUMBER",
    "interpolate a --base base --layers first=1,last=1 --scale middle=x": "--scale middle=x: 'x' is not a number",
    "interpolate a --base base --layers first=1,last=1 --scale middle=inf": "scale of 'middle': inf is not a finite",
    "interpolate a --base base --layers first=2,last=2 --scale middle=1": "scale of 'middle': the model has no such",
    "interpolate tied --base tied --layers first=1,last=1 --scale head=1": "the head of this model is its embeddings",
    "soup a b --tokenizer base": "--tokenizer base: it is none of the models (a, b)",
    "soup a b --dtype int8": "--dtype int8: allowed are bfloat16, float16, float32",
    "soup ./nowhere a": "'./nowhere': there is no such folder (looked for ",
    "soup nobody/nothing a": "'nobody/nothing' is not a folder here (looked for ",
    "vectors a --base nobody/nothing": "check the name, the connection (HF_HUB_OFFLINE) and your access",
    "soup a/config.json b": "'a/config.json' is a file; give the model's folder",
}


@pytest.mark.parametrize(("command", "message"), ARGUMENTS.items(), ids=ARGUMENTS)
def test_arguments_that_cannot_be_are_refused(refused, command, message) -> None:
    assert message in refused(f"{command} --out out")


MEASURED = ["vectors a", "ties a b", "dare a", "revert a --layers first=1,last=1", "instruct a --instruct b --scale 1"]
OTHER_BASE = json.dumps({"base": {"name": "another", "fingerprint": "0123456789abcdef"}})


@pytest.mark.parametrize("command", MEASURED, ids=lambda command: command.split()[0])
def test_a_vector_of_another_base_is_refused_unless_forced(refused, run_merge, command) -> None:
    write("a/lingraft.json", OTHER_BASE)()
    error = refused(f"{command} --base base --out out")
    assert "a was made from another (fingerprint 0123456789abcdef), and --base is base (" in error
    assert "--force" in error
    assert run_merge(f"{command} --base base --force --out out")[0] == 0


def test_a_merge_is_no_vector_of_another_base_than_its_own(refused, run_merge) -> None:
    assert run_merge("vectors a:0.5 --base base --out half")[0] == 0
    assert run_merge("vectors half --base base --out out")[0] == 0
    shutil.rmtree("out")
    assert "half was made from base (fingerprint " in refused("vectors half --base b --out out")


@pytest.mark.parametrize("record", ["{", "[]", '{"base": true}', '{"base": {"name": "x"}}'])
def test_a_file_that_only_has_the_name_of_our_record_does_not_matter(run_merge, record) -> None:
    write("a/lingraft.json", record)()
    assert run_merge("vectors a --base base --out out")[0] == 0


ADAPTERS: dict[str, tuple[Spoil, str]] = {
    "DoRA": (
        adapter(use_dora=True),
        "ad/adapter_config.json: only plain LoRA can be read here, and this adapter has use_d",
    ),
    "another kind": (
        adapter(peft_type="IA3"),
        "this adapter has peft_type 'IA3': merge it into its base with peft first",
    ),
    "one that changes the base": (adapter(init_lora_weights="pissa"), "this adapter has init_lora_weights 'pissa'"),
    "biases": (adapter(bias="all"), "this adapter has bias 'all'"),
    "a base on the hub that is not there": (
        adapter(base_model_name_or_path="nobody/nothing"),
        "ad: the base that this adapter names cannot be had ('nobody/nothing' is not a folder here",
    ),
    "a base that is not there": (
        adapter(base_model_name_or_path="/nowhere/x"),
        "ad: the base that this adapter names cannot be had ('/nowhere/x': there is no such folder",
    ),
    "itself for its base": (adapter(base_model_name_or_path="ad"), "ad"),
    "another base": (adapter(base_model_name_or_path="b"), "ad was made from b (fingerprint "),
    "one factor of two": (adapter(factor("lora_A", OF_ONES)), "do not make a pair; fetch it again"),
    "factors of another shape": (
        adapter(factor("lora_A", OF_ONES) | factor("lora_B", np.ones((16, 2)))),
        "make [16, 32], its base base has [32, 32]",
    ),
    "factors of two ranks": (
        adapter(factor("lora_A", OF_ONES) | factor("lora_B", np.ones((32, 3)))),
        "do not make a pair; fetch it again",
    ),
    "factors of one axis": (adapter(factor("lora_A", OF_ONES) | factor("lora_B", np.ones(32))), "ad"),
    "factors of no rank": (adapter(factor("lora_A", np.ones((0, 32))) | factor("lora_B", np.ones((32, 0)))), "ad"),
    "a layer that is not there": (
        adapter(factor("lora_A", OF_ONES, 9) | factor("lora_B", OF_ONES.T, 9)),
        "ad: the adapter changes 'layers.9.self_attn.q_proj.weight', which its base base does not have",
    ),
    "an alpha that is text": (adapter(lora_alpha="x"), "ad/adapter_config.json"),
    "no alpha": (adapter(lora_alpha=None), "ad/adapter_config.json"),
    "a pattern that is none": (adapter(alpha_pattern={"(": 4}), "ad/adapter_config.json"),
    "a pattern that takes for ever": (
        adapter(alpha_pattern={r"([a-z]|\w|\.|[._0-9])*[A-Z]": 4}),
        "ad/adapter_config.json: lora_alpha and alpha_pattern: the pattern ",
    ),
    "patterns that are no object": (adapter(alpha_pattern=[4]), "alpha_pattern is [4]"),
    "an alpha of nothing": (adapter(lora_alpha=0), "lora_alpha and alpha_pattern must give numbers above 0"),
    "an alpha that is no number": (adapter(lora_alpha=float("nan")), "is not JSON (NaN is no number of JSON)"),
    "another rank than its config says": (adapter(r=8), "have rank 2, adapter_config.json says 8 (r, rank_pattern)"),
    "another rank than a pattern says": (
        adapter(rank_pattern={"q_proj": 4}),
        "have rank 2, adapter_config.json says 4",
    ),
    "a setting that is not known": (
        adapter(new_scaling=0.5),
        "this adapter has new_scaling 0.5: merge it into its base",
    ),
    "a setting that is not known, of 0": (adapter(new_scaling=0), "this adapter has new_scaling 0"),
    "a start that is not known": (adapter(init_lora_weights="new"), "this adapter has init_lora_weights 'new'"),
    "factors that lie transposed": (adapter(fan_in_fan_out=True), "this adapter has fan_in_fan_out True"),
    "tokens that train alone": (adapter(trainable_token_indices=[1]), "this adapter has trainable_token_indices [1]"),
    "layers that are repeated": (adapter(layer_replication=[[0, 2]]), "this adapter has layer_replication [[0, 2]]"),
    "LoRA on embeddings": (
        adapter(
            {
                f"base_model.model.model.embed_tokens.lora_embedding_{side}": np.ones(shape, np.float32)
                for side, shape in {"A": (2, 258), "B": (32, 2)}.items()
            }
        ),
        "embed_tokens.lora_embedding_A' is LoRA on embeddings, and only LoRA on linears can be read here: merge it",
    ),
    "DoRA that does not say so": (
        adapter(factor("lora_A", OF_ONES) | factor("lora_B", OF_ONES.T) | factor("lora_magnitude_vector", np.ones(32))),
        "lora_magnitude_vector.weight' is more than two factors of a linear",
    ),
    "a bias that does not say so": (
        adapter(
            factor("lora_A", OF_ONES)
            | factor("lora_B", OF_ONES.T)
            | {"base_model.model.model.layers.1.self_attn.q_proj.bias": np.ones(32, np.float32)}
        ),
        "q_proj.bias' is no LoRA factor, and modules_to_save does not name it",
    ),
    "no tensor": (adapter({}), "ad/adapter_model.safetensors: there is no tensor in it"),
    "saved modules that are a number": (adapter(modules_to_save=3), "modules_to_save is 3, where a list of names"),
}

TIED: dict[str, tuple[Spoil, str]] = {
    "LoRA on the head": (
        adapter(
            {
                "base_model.model.lm_head.lora_A.weight": np.ones((2, 32), np.float32),
                "base_model.model.lm_head.lora_B.weight": np.ones((258, 2), np.float32),
            },
            base_model_name_or_path="tied",
        ),
        "ad: the adapter changes the head of tied, which is tied to its embeddings: they would differ",
    ),
    "saved embeddings without the head": (
        adapter(
            {"base_model.model.model.embed_tokens.weight": np.ones((258, 32), np.float32)},
            base_model_name_or_path="tied",
            modules_to_save=["embed_tokens"],
        ),
        "ad: the adapter saved the embeddings of tied without the head that is tied to them",
    ),
}


@pytest.mark.parametrize(("make", "message"), TIED.values(), ids=TIED)
def test_an_adapter_that_parts_embeddings_from_the_head_that_they_are_is_refused(refused, make, message) -> None:
    make()
    assert message in refused("vectors ad --base tied --out out")


@pytest.mark.parametrize(("make", "message"), ADAPTERS.values(), ids=ADAPTERS)
def test_an_adapter_that_cannot_be_merged_is_refused(refused, make, message) -> None:
    make()
    assert message in refused("vectors ad --base base --out out")


@pytest.mark.parametrize("config", ["{", "[]"])
def test_an_adapter_whose_config_cannot_be_read_is_named(refused, config) -> None:
    adapter()()
    write("ad/adapter_config.json", config)()
    assert "ad/adapter_config.json" in refused("vectors ad --base base --out out")


def test_a_sum_of_adapters_that_are_all_left_out_is_no_adapter(refused) -> None:
    adapter()()
    assert "--adapter" in refused("vectors ad:0 --base base --adapter --out out")


def test_an_adapter_of_pickles_is_refused(refused) -> None:
    adapter()()
    Path("ad/adapter_model.safetensors").rename("ad/adapter_model.bin")
    assert "ad: there is no adapter_model.safetensors; lingraft reads safetensors only" in refused(
        "vectors ad --base base --out out"
    )


def test_an_adapter_whose_base_cannot_be_found_is_taken_for_one_of_this_base_by_force(run_merge) -> None:
    adapter(base_model_name_or_path="nobody/nothing")()
    assert run_merge("vectors ad --base base --force --out out")[0] == 0
    adapter()()
    assert run_merge("vectors ad --base base --out right")[0] == 0
    assert Path("out/model.safetensors").read_bytes() == Path("right/model.safetensors").read_bytes()


def test_folders_named_like_a_models_files_do_not_matter(run_merge) -> None:
    Path("a/LICENSES").mkdir()
    Path("a/tokenizer").mkdir()
    assert run_merge("soup a b --out out")[0] == 0
