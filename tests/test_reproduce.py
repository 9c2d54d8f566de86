"""Tables of the papers, and their figures beside ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers
import yaml

import lingraft
from lingraft.errors import OutputError, UserError
from lingraft.papers import reproduce
from lingraft.papers.reproduce import by_row, compare, distinct, draw, recipe_text, run_name
from lingraft.papers.table import read_table, table_names
from lingraft.recipe import load_recipe
from lingraft.recipe.sweep import points_of, read_sweep

SHAPES = {
    "vocab_size": 64, "num_hidden_layers": 32, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4,
    "max_position_embeddings": 4096,
}  # fmt: skip


@pytest.fixture
def at_size(tmp_path, monkeypatch):
    """The recipe of a table with a base of a config alone and a line of text wherever a file is named."""
    monkeypatch.chdir(tmp_path)
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPES)).save_pretrained(tmp_path / "base")
    (tmp_path / "text.jsonl").write_text('{"text": "maji"}\n')

    def read(name: str, size: str) -> dict:
        values = yaml.safe_load(recipe_text(name, size, 1, None))
        values["base"] = "base"
        for entry in values["corpus"]:
            if "files" in entry:
                entry["files"] = "text.jsonl"
        for run in values["sweep"]["runs"]:
            for entry in run.get("corpus", []):
                if "files" in entry:
                    entry["files"] = "text.jsonl"
        evaluation = values["evaluation"]
        evaluation.pop("suites", None)
        if "text" in evaluation:
            evaluation["text"] = dict.fromkeys(evaluation["text"], "text.jsonl")
        return values

    return read


@pytest.mark.parametrize(("name", "size"), [(name, size) for name in table_names() for size in read_table(name).sizes])
def test_each_row_is_a_recipe_that_loads_and_no_two_are_the_same(at_size, name, size) -> None:
    values = at_size(name, size)
    points = points_of(read_sweep(values), name)
    assert len(points) == len(distinct(read_table(name), size)) > 2
    recipe = {key: of for key, of in values.items() if key != "sweep"}
    loaded = [load_recipe(recipe, [], point=point.values, runs_here=False) for point in points]
    assert len({str(one) for one in loaded}) == len(points)


def test_rows_that_are_the_same_at_a_small_size_run_once() -> None:
    table = read_table("layra-layers")
    assert len(distinct(table, "paper")) == len(table.rows)
    twice = table.model_copy(update={"rows": [*table.rows, table.rows[-1].model_copy(update={"name": "again"})]})
    assert distinct(twice, "testbed").keys() == distinct(table, "testbed").keys()


def test_runs_are_told_by_row_with_their_seeds() -> None:
    table = read_table("neutral-alpha")
    results = {
        "alpha-0_seed-0": {"learning": 0.5, "forgetting": 0.1},
        "alpha-0_seed-1": {"learning": 0.7, "forgetting": 0.3},
        "alpha-0.01_seed-0": {"learning": 0.2, "forgetting": 0.0},
    }
    values = {name: {"seed": int(name[-1])} for name in results}
    found = by_row(table, "testbed", results, values)
    assert found == {"α 0": [(50, 10), (70, 30)], "α 0.01": [(20, 0)]}
    row = compare(table, "neutral-alpha", "testbed", found)["rows"][0]
    assert (row["learning"], row["forgetting"], row["runs"]) == (60, 20, 2)


def test_where_the_paper_and_we_differ_is_said() -> None:
    table = read_table("neutral-gates")
    ours = {row.name: [(10.0 * i, 5.0 * i)] for i, row in enumerate(table.rows)}
    found = compare(table, "neutral-gates", "testbed", ours)
    learned, retained = found["sentences"]
    assert "'ReLU' and 'ReLU, l1' learn most there, 'adapters' here" in learned  # both have the lowest perplexity
    assert "'ReLU' forgets least there, 'no gate, l1' here" in retained
    assert "unlike the paper's (rho = -0.37)" in retained
    found = compare(table, "neutral-gates", "testbed", {name: [(10.0, 5.0 * i)] for i, name in enumerate(ours)})
    assert "all rows here are equal" in found["sentences"][0]
    last = table.rows[-2].name  # one of the two
    found = compare(table, "neutral-gates", "testbed", {n: [(10.0 + (n == last), 5.0 * i)] for i, n in enumerate(ours)})
    assert f"'{last}' learns most in both" in found["sentences"][0]
    assert run_name(table.rows[0]) == "no-gate-l1"
    page = draw(table, found)
    assert "arXiv 2410.02744, Table 4" in page
    assert "0.801" in page


def test_figures_that_our_copy_of_a_paper_lacks_are_left_out() -> None:
    name = "experts-layers"
    table = read_table(name)
    ours = {row.name: [(10.0 * i, 5.0 * i)] for i, row in enumerate(table.rows)}
    found = compare(table, name, "testbed", ours)
    learned, retained = found["sentences"]
    assert learned == (
        "Learned: the order is as in the paper (rho = +0.80); 'L2-SP' learns most there, 'freezing' here."
    )
    assert retained == "Retained: our copy of the paper has one figure, too few to compare an order."
    assert found["rho"]["retained"] is None
    page = draw(table, found)
    assert ">None<" not in page
    assert "<td>71.6</td>" in page
    assert "The paper</" in page  # the one row that has both figures
    table = read_table("experts-interpolation")
    found = compare(table, "experts-interpolation", "testbed", {row.name: [(1.0, 1.0)] for row in table.rows})
    assert "no figure, too few" in found["sentences"][0]
    assert "The paper</" not in draw(table, found)


def test_a_table_is_run_and_goes_on(shared_recipe, tmp_path, monkeypatch) -> None:
    def shorter(name: str):
        table = read_table(name)
        return table.model_copy(update={"rows": table.rows[::7]})

    monkeypatch.setattr(reproduce, "read_table", shorter)
    monkeypatch.setattr(reproduce, "_testbed", lambda common, folder: json.loads(json.dumps(shared_recipe)) | common)
    out = tmp_path / "scale"
    found = lingraft.reproduce("layra-scale", out)
    assert [row["row"] for row in found["rows"]] == ["scale 0", "scale 0.7"]
    learning = [row["learning"] for row in found["rows"]]
    assert learning[-1] > learning[0]
    assert json.loads((out / "table.json").read_text()) == found
    assert (out / "runs" / "report.html").is_file()
    assert (out / "table.html").is_file()
    assert lingraft.reproduce("layra-scale", out) == found
    with pytest.raises(OutputError, match="holds no 'neutral-gates'"):
        lingraft.reproduce("neutral-gates", out)


def test_old_text_stands_in_place_of_new_text() -> None:
    values = yaml.safe_load(recipe_text("neutral-replay", "testbed", 1, None))
    totals = []
    for run in values["sweep"]["runs"]:
        new, *old = run["corpus"]
        totals.append(new["tokens"] / (1 - sum(entry["share"] for entry in old)))
    assert totals == pytest.approx([totals[0]] * 4, rel=1e-4)


def test_a_table_whose_run_was_killed_goes_on(tmp_path, monkeypatch) -> None:
    def killed(common, folder):
        (folder / "testbed").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(reproduce, "_testbed", killed)
    for _ in range(2):
        with pytest.raises((KeyboardInterrupt, FileExistsError)):
            lingraft.reproduce("neutral-gates", tmp_path / "out")
    with pytest.raises(OutputError, match="holds no 'neutral-gates' of size 'paper'"):
        lingraft.reproduce("neutral-gates", tmp_path / "out", "paper")


def test_wrong_tables_and_sizes_are_refused(tmp_path) -> None:
    with pytest.raises(UserError, match=r"reproduce layra-layer: allowed are .*did you mean 'layra-layers'"):
        lingraft.reproduce("layra-layer", tmp_path / "a")
    with pytest.raises(UserError, match="--size small: 'neutral-gates' has the sizes testbed, paper"):
        lingraft.reproduce("neutral-gates", tmp_path / "a", "small")
    with pytest.raises(UserError, match="--seeds 0"):
        lingraft.reproduce("neutral-gates", tmp_path / "a", seeds=0)
    assert not Path(tmp_path / "a").exists()
