"""Code that comes with a model is never run, whatever the folder says and whoever answers a question."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lingraft

pytestmark = pytest.mark.integration

LOADERS = ("from_pretrained", "from_config")
"""Of transformers: they take code from a folder where nothing forbids it."""
CODE = "open({marker!r}, 'w').close()\nraise SystemExit(0)\n"
COMMANDS = """
import sys
from lingraft.checkpoints.chat_template import tokenizer_for_chat
from lingraft.checkpoints.check import check_model
from lingraft.checkpoints.read import empty_model, read_config, read_model, read_tokenizer
from lingraft.errors import ModelError
from pathlib import Path

for folder in map(Path, sys.argv[1:]):
    calls = (read_config, read_model, read_tokenizer, check_model, lambda of: empty_model(read_config(of)),
             lambda of: tokenizer_for_chat(of, None))
    for call in calls:
        try:
            call(folder)
            print(folder.name, "loaded")
        except ModelError as error:
            print(folder.name, "refused", error)
"""


def test_every_loader_of_the_library_is_told_to_run_no_code() -> None:
    source, found = Path(lingraft.__file__).parent, 0
    for path in source.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LOADERS:
                found += 1
                told = {word.arg: word.value for word in node.keywords}.get("trust_remote_code")
                assert getattr(told, "value", None) is False, f"{path}:{node.lineno}"
    assert found >= 4


@pytest.fixture
def folders(base, tmp_path) -> list[Path]:
    """Copies of a model whose files name code: of the model, of the tokenizer, of both, of another architecture."""
    marker = str(tmp_path / "ran")
    maps = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    tokens = {"AutoTokenizer": [None, "code.Tokenizer"]}
    kinds = {
        "model": ({"auto_map": maps}, {}),
        "tokenizer": ({}, {"auto_map": tokens, "tokenizer_class": "Tokenizer"}),
        "both": ({"auto_map": {**maps, **tokens}}, {"auto_map": tokens}),
        "unknown": ({"auto_map": maps, "model_type": "of_my_own"}, {}),
    }
    made = []
    for name, (config, tokenizer) in kinds.items():
        folder = tmp_path / name
        folder.mkdir()
        for path in base.iterdir():
            (folder / path.name).symlink_to(path)
        for file, change in (("config.json", config), ("tokenizer_config.json", tokenizer)):
            held = json.loads((base / file).read_text())
            (folder / file).unlink()
            (folder / file).write_text(json.dumps(held | change))
        (folder / "custom_generate").mkdir()
        for path in ("code.py", "custom_generate/generate.py"):
            (folder / path).write_text(CODE.format(marker=marker))
        made.append(folder)
    return made


def test_code_in_a_folder_is_never_run_and_nobody_is_asked(folders, tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, *map(str, folders)],
        input="y\n" * 100,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HOME": str(tmp_path / "home")},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()
    assert "[y/N]" not in done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines.count("model loaded") == lines.count("both loaded") == 6  # by the library's own classes
    unknown = [line for line in lines if line.startswith("unknown")]
    assert len(unknown) == 6
    assert all("architecture 'of_my_own' is not supported" in line for line in unknown[:2])
    assert sum(line.startswith("tokenizer ") for line in lines) == 6
