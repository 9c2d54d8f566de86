"""`lingraft generate`: a text goes on, or a message is answered, beside the base."""

from __future__ import annotations

import io

import pytest

import lingraft
from lingraft.checkpoints.read import read_model, read_tokenizer
from lingraft.cli import commands
from lingraft.errors import ModelError, UserError

pytestmark = pytest.mark.integration


def test_a_text_goes_on_greedily_from_bos(base) -> None:
    (answer,) = lingraft.generate(base, "maji na", max_tokens=8)
    model, tokenizer = read_model(base, "float32"), read_tokenizer(base)
    ids = tokenizer("<bos>maji na", return_tensors="pt", add_special_tokens=False).input_ids
    expected = model.generate(ids, do_sample=False, max_new_tokens=8)[0, ids.shape[1] :]
    assert answer == {"prompt": "maji na", "after": tokenizer.decode(expected, skip_special_tokens=True).strip()}


def test_a_base_stands_beside_it(base) -> None:
    answers = lingraft.generate(base, ["maji", "moto"], against=base, max_tokens=4)
    assert [answer["prompt"] for answer in answers] == ["maji", "moto"]
    assert all(answer["before"] == answer["after"] for answer in answers)


def test_a_seed_draws_the_same_and_another_draws_another(base) -> None:
    first, again, other = (
        lingraft.generate(base, "maji", max_tokens=20, temperature=1.0, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again != other


def test_a_base_without_a_template_has_no_chat(base) -> None:
    with pytest.raises(ModelError, match="no chat template"):
        lingraft.generate(base, "maji", chat=True)


@pytest.mark.parametrize(
    ("prompts", "settings", "message"),
    [
        ([], {}, "there is no prompt"),
        (" ", {}, "there is no prompt"),
        ("maji", {"max_tokens": 0}, "--max-tokens 0: at least 1"),
        ("maji", {"seed": -1}, "--seed -1: allowed are 0 to"),
        ("maji", {"temperature": -1}, "--temperature -1: allowed are 0"),
        ("maji " * 40, {}, "has 201 tokens; the model takes 1 to 63"),
    ],
)
def test_what_cannot_be_generated_is_an_error(base, prompts, settings, message) -> None:
    with pytest.raises(UserError, match=message):
        lingraft.generate(base, prompts, **settings)


def test_prompts_are_lines_of_standard_input(base, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("maji\n\nmoto\n"))
    commands.generate(str(base), "-", str(base), False, 3, 0.0, 0)
    shown = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert shown == ["maji", "base", "adapted", "", "moto", "base", "adapted", ""]
