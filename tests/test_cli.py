"""The command line as a user meets it: what it prints, what it writes, how it ends."""

from __future__ import annotations

import json
import math
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
import typer
import yaml
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM

import lingraft
from conftest import RETAINED
from lingraft import cli
from lingraft.errors import Interrupted, MachineError

pytestmark = pytest.mark.integration


@pytest.fixture
def recipe_file(recipe, tmp_path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


BROKEN = {
    "unknown key": ("nothing=1", "nothing: unknown key"),
    "wrong type": ("max_length=long", "max_length: should be a valid integer"),
    "too many layers": ("method.first=40", "first=40 and last=1 are 41 layers, but the model has 4"),
    "missing file": ("corpus.0.files=nowhere.jsonl", "no file matches 'nowhere.jsonl'"),
    "unknown language": ("languages.learn.0=xxq_Latn", "ISO 639-3 has no language 'xxq'"),
    "share over 1": ("corpus.0.share=1.5", "corpus.0.share: should be less than 1"),
    "no text to retain": ("languages.retain.2=fra_Latn", "evaluation.text.fra_Latn: is missing"),
    "no such method": ("method.name=lyra", "there is no method 'lyra' (did you mean 'layra'?)"),
    "no base": ("base=./nowhere", "base: './nowhere': there is no such folder"),
    "owned argument": ("training.output_dir=x", "this argument is not yours to set: use --out"),
    "a tag": ("seed=!!python/object/apply:os.getcwd []", "are not allowed, write plain values"),
}


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]], ids=["run", "dry-run"])
@pytest.mark.parametrize(("override", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_recipe_ends_with_2_and_writes_nothing(
    run_cli, recipe_file, tmp_path, override, message, dry_run
) -> None:
    code, _, error = run_cli("run", recipe_file, override, "--out", tmp_path / "out", *dry_run)
    assert code == 2
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


LATE = {
    "a field that no record has": ("corpus.0.text_field=body", "records without the field 'body'"),
    "text too short to hold any out": (
        "corpus.0.files=ONE",
        "% of the text is to be held out, and the least that can be is",
    ),
    "a replay that is too small": (
        "corpus.1={language: eng_Latn, files: ONE, share: 0.9}",
        "give more text",
    ),
    "all text dropped as less than a batch": (
        "training={dataloader_drop_last: true, per_device_train_batch_size: 1000}",
        "training.dataloader_drop_last drops all that there is",
    ),
    "a line that is no question": ("evaluation.tasks={cloze: {eng_Latn: ONE}}", "one.jsonl:1: context: Field required"),
}


@pytest.mark.parametrize(("override", "message"), LATE.values(), ids=LATE)
def test_input_that_turns_out_wrong_on_the_way_leaves_nothing_behind(
    run_cli, recipe_file, tmp_path, override, message
) -> None:
    one = tmp_path / "one.jsonl"
    one.write_text('{"text": "one short text, and that is all"}')
    code, _, error = run_cli("run", recipe_file, override.replace("ONE", str(one)), "--out", tmp_path / "out")
    assert code == 2
    assert message in error
    assert not (tmp_path / "out").exists()


def test_plain_text_without_blank_lines_is_told_with_the_way_to_cut_it_and_is_cut_so(
    run_cli, recipe_file, tmp_path, caplog
) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("".join(f"maji moto {i} kitabu shule\n" for i in range(40)))
    entry = f"corpus=[{{language: swh_Latn, files: {lines}, split: SPLIT}}]"
    run = ("run", recipe_file, "training.max_steps=1", "--out", tmp_path / "out")
    run_cli(*run, entry.replace("SPLIT", "null"))
    assert f"{lines}: one document, since plain text is cut at blank lines; 'split: lines' takes each" in caplog.text
    caplog.clear()
    run = (*run[:-1], tmp_path / "lines")
    assert run_cli(*run, entry.replace("SPLIT", "lines"))[0] == 0
    assert "cut at blank lines" not in caplog.text
    text = (tmp_path / "lines/work/split/held-out-swh_Latn.jsonl").read_text()
    assert "maji moto" in text
    assert "\\n" not in text


def test_evaluate_cuts_plain_text_as_it_is_told(run_cli, base, tmp_path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("maji moto\nkitabu\n\nshule\n")
    num_bytes = {}
    for split in ("paragraphs", "lines", "file"):
        out = tmp_path / f"{split}.json"
        assert run_cli("evaluate", base, "--text", f"swh_Latn={text}", "--out", out, "--split", split)[0] == 0
        num_bytes[split] = json.loads(out.read_text())["languages"]["swh_Latn"]["bytes"]
    assert num_bytes == {"paragraphs": 21, "lines": 20, "file": 23}  # line ends between documents are no text


@pytest.mark.parametrize("command", ["run", "evaluate", "extend", "fertility"])
@pytest.mark.parametrize(
    ("split", "wanted"), [("lines", "split: lines cuts plain text (.txt), which"), ("pages", "paragraphs")]
)
def test_a_way_to_cut_that_does_nothing_or_is_none_is_refused(
    run_cli, recipe_file, base, texts, tmp_path, command, split, wanted
) -> None:
    file, out = texts["swh_Latn"], ["--out", tmp_path / "out"]
    code, _, error = run_cli(
        *{
            "run": ["run", recipe_file, f"corpus.0.split={split}", *out],
            "evaluate": ["evaluate", base, "--text", f"swh_Latn={file}", "--split", split, *out],
            "extend": ["tokenizer", "extend", base, "--text", file, "--split", split, *out],
            "fertility": ["tokenizer", "fertility", base, "--text", f"swh_Latn={file}", "--split", split, *out],
        }[command]
    )
    assert code == 2
    assert wanted in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_evaluation_text_that_is_not_plain_is_not_cut(run_cli, recipe_file, tmp_path) -> None:
    code, _, error = run_cli("run", recipe_file, "evaluation.split=lines", "--out", tmp_path / "out")
    assert code == 2
    assert "evaluation: split: lines cuts plain text (.txt), which" in error


def test_a_base_that_cannot_be_trained_is_refused(run_cli, recipe_file, base, make_model, tmp_path) -> None:
    make_model().double().save_pretrained(base)
    code, _, error = run_cli("run", recipe_file, "--out", tmp_path / "out")
    assert code == 2
    assert "weights of type F64; supported are BF16, F16, F32" in error
    assert "tokens" not in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda base: (base / "model.safetensors").unlink(), "there are no weights"),
        (lambda base: (base / "model.safetensors").write_bytes(b"PK\x03\x04 a pickle"), "not a safetensors file"),
        (lambda base: (base / "tokenizer.json").unlink(), "its tokenizer cannot be read"),
    ],
    ids=["no weights", "no safetensors", "no tokenizer"],
)
def test_an_incomplete_base_is_refused(run_cli, recipe_file, base, tmp_path, spoil, message) -> None:
    spoil(base)
    code, _, error = run_cli("run", recipe_file, "--out", tmp_path / "out")
    assert code == 2
    assert message in error
    assert not (tmp_path / "out").exists()


def test_an_output_below_a_file_is_refused(run_cli, recipe_file, tmp_path) -> None:
    for dry_run in ([], ["--dry-run"]):
        code, _, error = run_cli("run", recipe_file, "--out", recipe_file / "out", *dry_run)
        assert code == 2
        assert f"{recipe_file} is a file" in error


def test_a_folder_of_another_recipe_is_refused_and_left_alone(run_cli, recipe_file, tmp_path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "recipe.resolved.yaml").write_text("base: another\n")
    code, _, error = run_cli("run", recipe_file, "--out", out)
    assert code == 2
    assert "belongs to another run" in error
    assert "base: 'another' there" in error
    assert [path.name for path in out.iterdir()] == ["recipe.resolved.yaml"]


def test_a_folder_that_is_no_run_is_refused_and_left_alone(run_cli, recipe_file, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("")
    code, _, error = run_cli("run", recipe_file, "--out", tmp_path / "out")
    assert code == 2
    assert "it holds thesis.tex" in error
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_the_good_recipe_is_planned_and_nothing_is_written(run_cli, recipe_file, tmp_path) -> None:
    code, printed, _ = run_cli("run", recipe_file, "--out", tmp_path / "out", "--dry-run")
    assert code == 0
    assert not (tmp_path / "out").exists()
    resolved = yaml.safe_load(printed.split("what trains")[0])
    assert resolved["training"]["adam_epsilon"] == 1e-5
    for part in ("embeddings", "first        0–1", "middle       2", "steps  16", "optimizer", "logits", "fits"):
        assert part in printed


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Interrupted("SIGTERM"), 3),
        (MachineError("no room"), 3),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), 3),
        (OSError(28, "No space left on device", "model"), 3),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), 3),
        (RuntimeError("[enforce fail at inline_container.cc:858] . unexpected pos 1 vs 0"), 3),
        (MemoryError(), 3),
    ],
    ids=["signal", "no room", "GPU memory", "disk", "disk in safetensors", "disk in torch", "memory"],
)
def test_what_the_machine_stopped_ends_with_3_and_says_to_start_again(
    run_cli, recipe_file, tmp_path, monkeypatch, error, code
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setitem(lingraft.__dict__, "run", fail)
    ended, _, message = run_cli("run", recipe_file, "--out", tmp_path / "out")
    assert ended == code
    assert "Traceback" not in message


class StoppedAtItsEnd:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


def a_library_that_drops_exceptions() -> None:
    with suppress(Exception):  # as transformers does around torch.compiler.is_compiling
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("lose", [a_library_that_drops_exceptions, StoppedAtItsEnd], ids=["except", "__del__"])
def test_a_stop_that_a_library_drops_is_heard(run_cli, recipe_file, tmp_path, monkeypatch, lose) -> None:
    def work(*_: object, **__: object) -> None:
        lose()
        time.sleep(5)

    monkeypatch.setitem(lingraft.__dict__, "run", work)
    ended, _, message = run_cli("run", recipe_file, "--out", tmp_path / "out")
    assert ended == 3
    assert "stopped by SIGTERM; start the same command again" in message


def test_our_own_fault_shows_its_traceback(monkeypatch, recipe_file, tmp_path) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(lingraft.__dict__, "run", fail)
    monkeypatch.setattr(sys, "argv", ["lingraft", "run", str(recipe_file), "--out", str(tmp_path / "out")])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_evaluate_agrees_with_a_plain_loop_over_logits(run_cli, base, texts, tokenizer, tmp_path) -> None:
    code, _, _ = run_cli(
        "evaluate", base, "--text", f"eng_Latn={texts['eng_Latn']}", "--max-length", 32, "--out", tmp_path / "r.json"
    )
    assert code == 0
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    nats = num_bytes = 0.0
    for line in texts["eng_Latn"].read_text().splitlines():
        text = json.loads(line)["text"]
        ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False).input_ids]
        done, start = 1, 0
        while done < len(ids):
            end = min(start + 32, len(ids))
            with torch.no_grad():
                logits = model(torch.tensor([ids[start:end]])).logits[0].log_softmax(-1)
            nats -= sum(logits[i - 1 - start, ids[i]].item() for i in range(done, end))
            done, start = end, start + 16
        num_bytes += len(text.encode())
    measured = json.loads((tmp_path / "r.json").read_text())["languages"]["eng_Latn"]["bits_per_byte"]["after"]
    assert measured == pytest.approx(nats / math.log(2) / num_bytes, abs=1e-5)


def test_evaluate_against_a_base_gives_roles_and_sums(run_cli, base, texts, tmp_path) -> None:
    options = ["--text", f"eng_Latn={texts['eng_Latn']}", "--text", f"swh_Latn={texts['swh_Latn']}", "--max-length", 32]
    roles = ["--against", base, "--learn", "swh_Latn", "--retain", "eng_Latn"]
    code, printed, _ = run_cli("evaluate", base, *options, *roles, "--out", tmp_path / "r.json")
    assert code == 0
    results = json.loads((tmp_path / "r.json").read_text())
    assert (results["learning"], results["forgetting"]) == (0, 0)
    assert results["languages"]["swh_Latn"]["bits_per_byte"]["ci95"] == [0, 0]
    assert "learning +0.0 %" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", "eng_Latn"], "this option is --text LANGUAGE=FILE"),
        (["--text", "chinese=x.jsonl"], "'chinese' is not a language code"),
        (["--text", "eng_Latn=TEXT", "--text", "English=TEXT"], "eng_Latn is named twice"),
        (["--text", "eng_Latn=TEXT", "--task", "eng_Latn=x"], "this option is --task NAME:LANGUAGE=FILE"),
        (["--text", "eng_Latn=TEXT", "--task", "cloze:eng_Latn"], "this option is --task NAME:LANGUAGE=FILE"),
        (["--text", "eng_Latn=TEXT", "--task", "cloze:eng_Latn=no.jsonl"], "no file matches 'no.jsonl'"),
        (["--text", "eng_Latn=nowhere.jsonl"], "no file matches 'nowhere.jsonl'"),
        (["--text", "eng_Latn=TEXT", "--learn", "swh_Latn"], "swh_Latn has a role but no text"),
        (["--text", "eng_Latn=TEXT", "--learn", "eng_Latn", "--retain", "eng_Latn"], "a language has one role"),
        (["--text", "eng_Latn=TEXT", "--max-length", "4096"], "--max-length 4096: allowed are 8 to 64"),
        (["--text", "eng_Latn=TEXT", "--against", "./nowhere"], "'./nowhere': there is no such folder"),
        (["--text", "eng_Latn=TEXT", "--out", "FOLDER"], "is a folder; give the name of a file"),
        (["--text", "eng_Latn=TEXT", "--text-field", "body"], "records without the field 'body'"),
    ],
)
def test_evaluate_with_wrong_input_ends_with_2_and_writes_nothing(
    run_cli, base, texts, tmp_path, arguments, message
) -> None:
    places = {"TEXT": texts["eng_Latn"], "FOLDER": tmp_path}
    for name, place in places.items():
        arguments = [argument.replace(name, str(place)) for argument in arguments]
    code, _, error = run_cli("evaluate", base, "--out", tmp_path / "r.json", *arguments)
    assert code == 2
    assert message in error
    assert not (tmp_path / "r.json").exists()


def test_a_language_with_questions_alone_has_a_role(run_cli, base, texts, tmp_path) -> None:
    questions = tmp_path / "q.jsonl"
    questions.write_text('{"context": "maji", "choices": [" moto", " jua"], "answer": 0}')
    measured = ["--text", f"eng_Latn={texts['eng_Latn']}", "--task", f"cloze:swh_Latn={questions}", "--max-length", 32]
    roles = ["--against", base, "--learn", "swh_Latn", "--retain", "eng_Latn"]
    code, printed, _ = run_cli("evaluate", base, *measured, *roles, "--out", tmp_path / "r.json")
    assert code == 0
    assert "swh_Latn  learn" in printed
    results = json.loads((tmp_path / "r.json").read_text())
    assert results["tasks"]["cloze"]["learning"] == 0
    assert "learning" not in results


def test_text_of_which_no_token_can_be_scored_is_refused(run_cli, base, tmp_path) -> None:
    config = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps({**config, "bos_token": None, "eos_token": None}))
    (tmp_path / "short.jsonl").write_text('{"text": "a"}')
    text = ["--text", f"eng_Latn={tmp_path / 'short.jsonl'}"]
    code, _, error = run_cli("evaluate", base, *text, "--out", tmp_path / "r.json")
    assert code == 2
    assert "eng_Latn: no token of the text can be scored" in error


def test_evaluate_says_what_it_leaves_out(run_cli, base, texts, tmp_path, caplog) -> None:
    with texts["eng_Latn"].open("a") as file:
        file.write("{broken\n")
    options = ["--text", f"eng_Latn={texts['eng_Latn']}", "--max-length", 32]
    assert run_cli("evaluate", base, *options, "--out", tmp_path / "r.json")[0] == 0
    assert f"left out: 1 lines that are not JSON (first: {texts['eng_Latn']}:{RETAINED + 1})" in caplog.text


def test_python_functions_stay_functions_after_their_modules_are_imported() -> None:
    import lingraft.pipeline.run

    functions = ["advise", "demo", "diagnose", "evaluate", "generate", "init", "report", "reproduce", "run"]
    assert lingraft.__all__ == sorted([*functions, "merge", "tokenizer"])
    assert all(callable(getattr(lingraft, name)) for name in lingraft.__all__ if name not in ("merge", "tokenizer"))
    assert lingraft.merge.__all__ == ["dare", "instruct", "interpolate", "revert", "soup", "ties", "vectors"]
    assert lingraft.tokenizer.__all__ == ["extend", "fertility"]
    with pytest.raises(AttributeError, match="no attribute 'graft'"):
        _ = lingraft.graft


def test_help_does_not_load_torch() -> None:
    program = "import sys; sys.argv = ['lingraft', '--help']\ntry:\n from lingraft.cli import main; main()\n"
    program += "except SystemExit:\n print('torch' in sys.modules, 'transformers' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert printed.endswith("False False\n")
    for name in ("init", "run", "evaluate", "report"):
        assert name in printed


def _commands(group, path=()):
    for name, command in group.commands.items():
        yield from _commands(command, (*path, name)) if hasattr(command, "commands") else [((*path, name), command)]


def test_every_command_shows_an_example_that_it_reads() -> None:
    for path, command in _commands(typer.main.get_command(cli.commands.app)):
        words = shlex.split((command.epilog or "").removeprefix("Example: "))
        assert words[: len(path) + 1] == ["lingraft", *path], path
        context = command.make_context(path[-1], words[len(path) + 1 :])
        assert not context.args


def test_the_version_is_one_everywhere(run_cli) -> None:
    code, out, _ = run_cli("--version")
    assert (code, out) == (0, f"lingraft {version('lingraft')}\n")
    assert lingraft.__version__ == version("lingraft")


def test_the_package_lists_its_public_names() -> None:
    assert [name for name in dir(lingraft) if not name.startswith("_")] == lingraft.__all__
    program = "import sys, lingraft; dir(lingraft), lingraft.__version__; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize(("option", "said"), [((), True), (("-q",), False), (("-v",), True)])
def test_quiet_leaves_warnings_and_errors(run_cli, caplog, base, tmp_path, option, said) -> None:
    assert run_cli(*option, "merge", "soup", base, "--out", tmp_path / "soup")[0] == 0
    assert ("soup of 1 models" in caplog.text) == said
    assert run_cli("-q", "-v", "merge", "soup", base, "--out", tmp_path / "soup")[0] == 2


def test_shells_complete_commands(run_cli, monkeypatch) -> None:
    monkeypatch.setenv("_LINGRAFT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "lingraft mer")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert run_cli()[1].split() == ["merge"]
