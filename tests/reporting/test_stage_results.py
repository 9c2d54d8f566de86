"""The page of runs of several stages, and of what tokenizers make of languages."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import plotly.graph_objects
import pytest

import lingraft
from lingraft.errors import UserError
from lingraft.reporting.read import language_name
from lingraft.vocabulary.fertility import HIGH_COST, MANY_BYTES, MANY_UNKNOWN

HOSTILE = "<script>alert(1)</script>"
SOFT = "#5c6670"


def entry(role: str, before: float, after: float) -> dict:
    bits = {"before": before, "after": after, "delta": after - before, "ci95": [after - before] * 2}
    return {"role": role, "bytes": 12345, "bits_per_byte": bits}


def record(**of: float) -> dict:
    return {"tokens_per_word": 2.0, "bytes_per_token": 3.0, "byte_share": 0.0, "unknown_share": 0.0, "cost": 1.0} | of


@pytest.fixture
def results() -> dict:
    """A run that learned Swahili in two stages, and lost English in the second."""
    stages = [
        {"name": "align", "languages": {"eng_Latn": 0.9, "swh_Latn": 3.0}, "learning": 0.25, "forgetting": -0.1},
        {"name": "adapt", "languages": {"eng_Latn": 1.08, "swh_Latn": 1.5}, "learning": 0.625},
    ]
    return {
        "schema": 1,
        "base": "base",
        "measured": {"max_length": 64, "stride": 32, "bos": True},
        "languages": {"eng_Latn": entry("retain", 1.0, 1.08), "swh_Latn": entry("learn", 4.0, 1.5)},
        "learning": 0.625,
        "forgetting": 0.08,
        "stages": stages,
    }


def stage(name: str, method: str, trained: int, tokens: int) -> dict:
    part = {"part": f"part of {name}", "group": "head", "weights": 100, "in_full": 100, "in_adapters": 0}
    corpus = [{"language": "swh_Latn", "documents": 3, "tokens": tokens, "share": 1.0, "kept_out": 1}]
    weights = {"base": {"head": 100}, "trained": {"head": trained}}
    of = {"name": name, "method": {"name": method, "first": 2}, "weights": weights, "stack": [part]}
    return of | {"corpus": corpus, "tokens": tokens, "steps": 10}


@pytest.fixture
def origin() -> dict:
    stages = [stage("align", "embeddings", 40, 1000), stage("adapt", "layra", 90, 2000)]
    vocabulary = {"new_tokens": 2000, "init": "subtoken-mean", "first": 12288, "tokens": 14288, "rows": 14336}
    return {"stages": stages, "vocabulary": vocabulary, "export": {"dtype": "float32"}}


@pytest.fixture
def training() -> dict:
    logs = {name: [{"loss_swh_Latn": loss, "step": 10}] for name, loss in (("align", 5.0), ("adapt", 2.0))}
    return {
        "stages": [
            {"name": name, "kind": "text", "steps": 10, "seconds": 60.0, "log": log} for name, log in logs.items()
        ]
    }


@pytest.fixture
def draw(tmp_path):
    def call(
        *all_results: dict, names: tuple[str, ...] = ("first", "second"), beside: tuple = (), **files: dict
    ) -> str:
        folders = [tmp_path / name for name in names[: len(all_results)]]
        for folder, results in zip(folders, all_results, strict=True):
            folder.mkdir()
            for file, content in {"results": results, **files}.items():
                (folder / f"{file}.json").write_text(json.dumps(content))
        lingraft.report([*folders, *beside], tmp_path / "report.html")
        return (tmp_path / "report.html").read_text()

    return call


@pytest.fixture
def fertility_file(tmp_path):
    def call(models: dict, name: str = "fertility.json", schema: int = 1):
        (tmp_path / name).write_text(json.dumps({"schema": schema, "models": models}))
        return tmp_path / name

    return call


def figures(page: str) -> list[dict]:
    return [json.loads(data) for data in re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)]


def bars(page: str) -> dict:
    (found,) = [figure for figure in figures(page) if figure["data"][0]["type"] == "bar"]
    return found


def step_lines(page: str) -> dict:
    return next(figure for figure in figures(page) if "base" in figure["layout"]["xaxis"].get("ticktext", []))


def rows(page: str, of: str) -> list[list[str]]:
    """The body of the table of this class, as it is read."""
    body = re.search(rf'<table class="{of}">.*?<tbody>(.*?)</tbody>', page, re.DOTALL)[1]
    cells = [re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL) for row in re.findall(r"<tr.*?</tr>", body, re.DOTALL)]
    return [[" ".join(re.sub(r"<[^>]*>", "", cell).split()) for cell in row] for row in cells]


def text(page: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", "", page).split())


def test_a_run_of_several_stages_is_called_by_their_names(draw, results, origin, training) -> None:
    page = draw(results, lingraft=origin, training=training)
    assert "<p>align → adapt · on base" in page
    assert (
        "2,000 new tokens, whose rows began as subtoken-mean, from id 12,288 on: 14,288 tokens in 14,336 rows." in page
    )


def test_each_stage_stands_in_its_order_with_its_method_losses_stack_and_text(draw, results, origin, training) -> None:
    first, second = draw(results, lingraft=origin, training=training).split('<h3 class="stage">')[1:]
    for part, method, name, tokens, loss in (
        (first, "embeddings", "align", "1,000", 5.0),
        (second, "layra", "adapt", "2,000", 2.0),
    ):
        assert f"<p>{method} · text · first 2</p>" in part
        assert f"part of {name}: full-rank" in part
        assert f"<td>{tokens}</td>" in part
        assert "10 steps in 0:01:00." in part
        assert figures(part)[0]["data"][0]["y"] == [loss]


def test_a_stage_has_the_log_of_its_name_whatever_the_order(draw, results, origin, training) -> None:
    training["stages"].reverse()
    first = draw(results, lingraft=origin, training=training).split('<h3 class="stage">')[1]
    assert figures(first)[0]["data"][0]["y"] == [5.0]


def test_stages_are_drawn_from_either_file_alone(draw, results, origin, training) -> None:
    assert "part of adapt" in draw(results, lingraft=origin)
    assert '<h3 class="stage">' in draw(results, names=("logs",), training=training)


def test_a_limit_on_forgetting_stands_in_the_stage_that_had_it(draw, results, origin) -> None:
    chosen = {"scales": {"first": 0.5}, "learning": 0.1, "forgetting": 0.01, "at_most": 0.01}
    limit = {"limit": 0.01, "layers": {"first": 2, "last": 0}, "chosen": chosen, "points": [chosen]}
    origin["stages"][0]["merge_steps"] = [{"max_forgetting": 0.01}]
    page = draw({**results, "max_forgetting": limit}, lingraft=origin)
    assert ["Scale selection" in part for part in page.split('<h3 class="stage">')[1:]] == [True, False]


def test_among_runs_one_of_stages_has_the_tokens_of_all_and_the_most_weights_of_one(draw, results, origin) -> None:
    page = draw(results, results, lingraft=origin)
    assert [row[-2:] for row in rows(page, "index")] == [["90", "3,000"]] * 2
    assert "the parameters of the stage that trained most, and the tokens of all stages" in page


def test_a_run_of_one_stage_has_none_of_it(draw, results) -> None:
    del results["stages"]
    page = draw(results, lingraft={"method": {"name": "full"}})
    assert not any(word in page for word in ('class="stage"', "Stage by stage", "Tokenizers", ".warning"))


def test_lines_from_step_to_step_begin_at_the_base(draw, results) -> None:
    figure = step_lines(draw(results))
    assert figure["layout"]["xaxis"]["ticktext"] == ["base", "align", "adapt"]
    lines = {line["name"]: line for line in figure["data"]}
    assert (lines["swh_Latn"]["x"], lines["swh_Latn"]["y"]) == ([0, 1, 2], [4.0, 3.0, 1.5])


def test_only_learned_languages_have_a_colour_from_step_to_step(draw, results) -> None:
    colours = {line["name"]: line["line"]["color"] for line in step_lines(draw(results))["data"]}
    assert colours == {"swh_Latn": "#0072B2", "eng_Latn": SOFT}


def test_the_table_of_stages_says_where_it_was_learned_and_where_lost(draw, results) -> None:
    page = draw(results)
    assert rows(page, "stages") == [
        ["Swahili swh_Latn", "learned", "4.0000", "3.0000", "▼ -25.0 %", "1.5000", "▼ -50.0 %"],
        ["English eng_Latn", "retained", "1.0000", "0.9000", "▼ -10.0 %", "1.0800", "▲ +20.0 %"],
        ["learning", "", "", "", "+25.0 %", "", "+62.5 %"],
        ["forgetting", "", "", "", "-10.0 %", "", ""],
    ]
    assert re.findall(r'class="lost" data-value="[^"]*">([^<]*)<', page.split('class="stages"')[1]) == ["▲ +20.0 %"]


def test_a_language_that_no_base_measured_begins_where_it_was_measured(draw, results) -> None:
    results["stages"][1]["languages"]["glg_Latn"] = 2.0
    page = draw(results)
    line = next(line for line in step_lines(page)["data"] if line["name"] == "glg_Latn")
    assert (line["x"], line["y"]) == ([2], [2.0])
    assert rows(page, "stages")[2] == ["Galician glg_Latn", "", "", "", "", "2.0000", ""]


@pytest.mark.parametrize("number", [1, 12, 40])
def test_names_at_the_ends_of_lines_lie_apart_and_inside(draw, results, number) -> None:
    codes = [f"q{a}{b}_Latn" for a in "ab" for b in "abcdefghijklmnopqrstuvwxyz"][:number]
    results["languages"] = {code: entry("retain", 1.0, 1.0) for code in codes}
    results["stages"] = [{"name": "align", "languages": dict.fromkeys(codes, 1.0)}]
    look = step_lines(draw(results))["layout"]
    inside = look["height"] - look["margin"]["t"] - look["margin"]["b"]
    heights = sorted(note["y"] * inside for note in look["annotations"])
    assert len(heights) == number
    assert heights[0] >= -1e-6
    assert heights[-1] <= inside
    assert all(high - low >= 13.9 for low, high in pairwise(heights))


def test_the_tokenizer_of_a_run_is_drawn_before_and_after_it_grew(draw, results) -> None:
    after = {"swh_Latn": record(tokens_per_word=1.5, bytes_per_token=4.0)}
    results["fertility"] = {"before": {"swh_Latn": record(), "eng_Latn": record()}, "after": after}
    page = draw(results)
    assert [(bar["name"], bar["x"]) for bar in bars(page)["data"]] == [("before", [3.0, 3.0]), ("after", [4.0])]
    assert rows(page, "tokenizers")[0] == [
        *("Swahili swh_Latn", "2.00 → 1.50", "3.00 → 4.00", "0.0 % → 0.0 %", "1.00 → 1.00"),
    ]


def test_runs_on_one_base_share_its_bar(draw, results) -> None:
    results["fertility"] = {"before": {"swh_Latn": record()}}
    grown = {**results, "fertility": {**results["fertility"], "after": {"swh_Latn": record(bytes_per_token=4.0)}}}
    assert [bar["name"] for bar in bars(draw(results, grown))["data"]] == ["base", "second"]


@pytest.mark.parametrize(
    ("key", "least", "said"),
    [
        ("byte_share", MANY_BYTES, "10 % of its tokens are byte-fallback tokens"),
        ("cost", HIGH_COST, "a character costs 2.0 times what it costs in English"),
        ("unknown_share", MANY_UNKNOWN, "1 % of its tokens are unknown: it cannot be encoded"),
    ],
)
def test_a_language_that_is_cut_to_pieces_is_warned_of_from_the_limit_on(draw, results, key, least, said) -> None:
    results["fertility"] = {"before": {"urd_Arab": record(**{key: least})}}
    page = draw(results)
    assert f"Urdu urd_Arab: {said}" in text(page)
    assert "what kept Urdu from being learned on Llama 3.1" in page
    assert "▲" in bars(page)["layout"]["annotations"][-1]["text"]
    results["fertility"] = {"before": {"urd_Arab": record(**{key: 0.99 * least})}}
    assert "Over-segmented" not in draw(results, names=("below",))


def test_a_warning_that_new_tokens_resolve_says_so(draw, results) -> None:
    cut = record(cost=3.0)
    results["fertility"] = {"before": {"urd_Arab": cut, "pes_Arab": cut}, "after": {"urd_Arab": record()}}
    assert [
        ("resolved by the new tokens" in line)
        for line in re.findall(r"<li.*?</li>", draw(results))
        if "costs 3.0" in line
    ] == [
        True,
        False,
    ]


def test_a_page_of_a_fertility_file_alone_has_one_section(draw, fertility_file) -> None:
    models = {"hub/one": {"swh_Latn": record()}, "hub/two": {"swh_Latn": record(bytes_per_token=1.5)}}
    page = draw(beside=(fertility_file(models),))
    assert re.findall(r'<section[^>]*id="([^"]*)"', page) == ["tokenizers"]
    assert [(bar["name"], bar["x"]) for bar in bars(page)["data"]] == [("one", [3.0]), ("two", [1.5])]
    assert "hub/one, hub/two" in page


def test_a_fertility_file_stands_beside_runs(draw, results, fertility_file) -> None:
    page = draw(results, beside=(fertility_file({"hub/one": {"swh_Latn": record()}}),))
    assert 'id="bits"' in page
    assert [bar["name"] for bar in bars(page)["data"]] == ["one"]


def test_a_model_of_two_files_is_one_tokenizer_unless_they_contradict(draw, fertility_file) -> None:
    first = fertility_file({"m": {"swh_Latn": record()}}, "a.json")
    second = fertility_file({"m": {"eng_Latn": record()}}, "b.json")
    third = fertility_file({"m": {"eng_Latn": record(bytes_per_token=9.0)}}, "c.json")
    assert [bar["name"] for bar in bars(draw(beside=(first, second)))["data"]] == ["m"]
    assert [bar["name"] for bar in bars(draw(beside=(first, second, third)))["data"]] == ["m 1", "m 2"]


def test_what_tokenizer_fertility_writes_can_be_drawn(draw, make_fertility_file) -> None:
    page = draw(beside=(make_fertility_file,))
    assert len(bars(page)["data"]) == 1


@pytest.fixture
def make_fertility_file(base, texts, tmp_path):
    """As `lingraft tokenizer fertility --out` writes it."""
    lingraft.tokenizer.fertility([base], {"eng_Latn": str(texts["eng_Latn"])}, out=tmp_path / "made.json")
    return tmp_path / "made.json"


def test_a_fertility_file_without_english_has_no_cost(draw, fertility_file) -> None:
    of = {key: value for key, value in record().items() if key != "cost"}
    page = draw(beside=(fertility_file({"m": {"swh_Latn": of}}),))
    assert "cost<br>" not in page
    assert rows(page, "tokenizers") == [["Swahili swh_Latn", "2.00", "3.00", "0.0 %"]]


@pytest.mark.parametrize(
    ("models", "schema", "message"),
    [
        ({}, 1, r"not a fertility file of lingraft \(models:"),
        ({"m": {"swh_Latn": {}}}, 1, r"not a fertility file of lingraft \(models\.m\.swh_Latn\.tokens_per_word:"),
        ({"m": {"swh_Latn": record(cost="dear")}}, 1, r"not a fertility file of lingraft \(models\.m\.swh_Latn\.cost:"),
        ({"m": {}}, 2, "reads schema 1"),
        ({"m": {}}, 1, "there is no language in these fertility files"),
    ],
)
def test_a_fertility_file_of_a_wrong_form_is_refused(draw, fertility_file, tmp_path, models, schema, message) -> None:
    with pytest.raises(UserError, match=message):
        draw(beside=(fertility_file(models, schema=schema),))
    assert not (tmp_path / "report.html").exists()


def test_a_file_of_neither_kind_is_refused_with_what_is_allowed(draw, tmp_path) -> None:
    (tmp_path / "x.json").write_text('{"a": 1}')
    with pytest.raises(UserError, match=r"x\.json: .*'lingraft evaluate' or of 'lingraft tokenizer fertility'"):
        draw(beside=(tmp_path / "x.json",))


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("lingraft", {"stages": [{}]}, "stages.0.name"),
        ("lingraft", {"stages": [{"name": "a", "steps": "many"}]}, "stages.0.steps"),
        ("lingraft", {"vocabulary": {}}, "vocabulary.new_tokens"),
        ("training", {"stages": [{"name": "a", "log": [1]}]}, "stages.0.log.0"),
    ],
)
def test_a_stage_of_a_wrong_form_is_named_with_its_file(draw, results, name, content, place) -> None:
    with pytest.raises(UserError, match=rf"{name}\.json: .*\({re.escape(place)}:"):
        draw(results, **{name: content})


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"stages": [{"name": "a"}]}, "stages.0.languages"),
        ({"stages": [{"name": "a", "languages": {"swh_Latn": "few"}}]}, "stages.0.languages.swh_Latn"),
        ({"fertility": {"before": {"swh_Latn": {}}}}, "fertility.before.swh_Latn.tokens_per_word"),
    ],
)
def test_stages_and_fertility_of_a_wrong_form_are_named(draw, results, change, place) -> None:
    with pytest.raises(UserError, match=rf"results\.json: .*\({re.escape(place)}:"):
        draw({**results, **change})


def test_names_of_stages_and_models_are_shown_and_not_run(draw, results, origin, training, fertility_file) -> None:
    results["stages"].append({"name": HOSTILE, "languages": {HOSTILE: 1.0}})
    results["fertility"] = {"before": {HOSTILE: record(cost=9.0)}, "after": {HOSTILE: record(cost=9.0)}}
    origin["stages"].append({"name": HOSTILE, "method": {"name": HOSTILE}, "merge": [{HOSTILE: HOSTILE}]})
    origin["vocabulary"]["init"] = HOSTILE
    training["stages"].append({"name": HOSTILE, "kind": HOSTILE, "log": [{f"loss_{HOSTILE}": 1.0, "step": 1}]})
    beside = (fertility_file({HOSTILE: {HOSTILE: record(cost=9.0)}}),)
    page = draw(results, lingraft=origin, training=training, beside=beside)
    assert HOSTILE not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 15
    drawn = json.dumps(figures(page))
    assert "<script" not in drawn
    assert "hovertemplate" not in drawn


def test_every_new_figure_is_one_that_plotly_knows(draw, results, origin, training) -> None:
    results["fertility"] = {"before": {"swh_Latn": record()}, "after": {"swh_Latn": record(cost=3.0)}}
    for figure in figures(draw(results, lingraft=origin, training=training)):
        plotly.graph_objects.Figure(figure)  # raises where a key or a value is not plotly's


def test_pairs_are_called_by_both_languages() -> None:
    assert language_name("eng_Latn–swh_Latn") == "English–Swahili"
