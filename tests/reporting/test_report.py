from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import plotly.graph_objects
import pytest
from plotly.offline import get_plotlyjs

import lingraft
from lingraft.errors import UserError

HOSTILE = "<script>alert(1)</script>"


def entry(role: str, before: float, after: float, half: float = 0.1) -> dict:
    delta = after - before
    return {
        "role": role,
        "bytes": 12345,
        "tokens": {"before": 4000, "after": 4000},
        "bits_per_byte": {"before": before, "after": after, "delta": delta, "ci95": [delta - half, delta + half]},
        "perplexity": {"before": 90.0, "after": 30.0},
    }


def task(before: float, after: float) -> dict:
    accuracy = {"before": before, "after": after, "delta": after - before, "ci95": [after - before - 0.02] * 2}
    of = {"role": "retain", "questions": 400, "chance": 0.25, "score": accuracy}
    return {"metric": "accuracy", "languages": {"eng_Latn": of}, "forgetting": before - after}


@pytest.fixture
def results():
    """The results of a run in which English got worse and Swahili better."""
    return {
        "schema": 1,
        "base": "base",
        "model": "model",
        "measured": {"max_length": 64, "stride": 32, "bos": True},
        "languages": {"eng_Latn": entry("retain", 1.0, 1.25), "swh_Latn": entry("learn", 4.0, 3.0)},
        "tasks": {},
        "learning": 0.25,
        "forgetting": 0.25,
    }


@pytest.fixture
def origin():
    """`lingraft.json` of a model of one layer, whose embeddings trained full-rank and whose layer has adapters."""
    parts = [("embeddings", "embeddings", 100, 100, 0), ("layer 0", "first", 50, 0, 8), ("head", "head", 100, 0, 0)]
    keys = ("part", "group", "weights", "in_full", "in_adapters")
    return {
        "method": {"name": "layra", "first": 1},
        "weights": {"base": {"embeddings": 100, "first": 50, "head": 100}, "trained": {"embeddings": 100, "first": 8}},
        "stack": [dict(zip(keys, part, strict=True)) for part in parts],
        "plan": "what trains",
        "steps": 20,
        "tokens": 4000,
        "corpus": [{"language": "swh_Latn", "documents": 3, "tokens": 4000, "share": 1.0, "kept_out": 1}],
        "export": {"dtype": "float32", "bits_per_byte_unrounded": {"swh_Latn": 3.0}},
        "versions": {"lingraft": "0.1.0"},
    }


def point(learning: float, forgetting: float, at_most: float, **scales: float) -> dict:
    return {"scales": scales, "learning": learning, "forgetting": forgetting, "at_most": at_most}


@pytest.fixture
def limit():
    """`max_forgetting` of results: three factors of all groups, not in their order, and a chosen one that differs."""
    chosen = point(0.2, 0.008, 0.0095, first=0.8, middle=0.0)
    points = [
        point(0.1, 0.005, 0.007, first=0.5, middle=0.5),
        point(0.3, 0.04, 0.045, first=1.0, middle=1.0),
        point(0.15, 0.009, 0.0099, first=0.625, middle=0.625),
        point(0.05, 0.002, 0.003, first=0.0, middle=0.625),
        chosen,
    ]
    return {"limit": 0.01, "layers": {"first": 2, "last": 0}, "chosen": chosen, "points": points}


@pytest.fixture
def draw(tmp_path):
    def call(*all_results: dict, names: tuple[str, ...] = ("first", "second", "third"), **files: dict | str) -> str:
        folders = []
        for name, results in zip(names, all_results, strict=False):
            folder = tmp_path / name
            folder.mkdir(parents=True)
            for file, content in {"results": results, **files}.items():
                text = content if isinstance(content, str) else json.dumps(content)
                (folder / ("recipe.resolved.yaml" if file == "recipe" else f"{file}.json")).write_text(text)
            folders.append(folder)
        lingraft.report(folders, tmp_path / "report.html")
        return (tmp_path / "report.html").read_text()

    return call


class Scripts(HTMLParser):
    """The scripts of a page as a browser finds them, and all that stands outside of them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.run: list[str] = []
        self.data: list[str] = []
        self.shown = ""
        self.attributes: list[tuple[str, str | None]] = []
        self._inside: list[str] | None = None
        self.feed(page)

    def handle_starttag(self, tag, attributes) -> None:
        self.attributes += attributes
        if tag == "script":
            self._inside = self.data if dict(attributes).get("type") == "application/json" else self.run
            self._inside.append("")

    def handle_endtag(self, tag) -> None:
        self._inside = None

    def handle_data(self, data) -> None:
        if self._inside is None:
            self.shown += data
        else:
            self._inside[-1] += data


def figures(page: str) -> list[dict]:
    return [json.loads(data) for data in Scripts(page).data]


def headings(figure: dict) -> dict[str, str]:
    """Languages of a figure, each with the note beside it."""
    texts = [note["text"] for note in figure["layout"]["annotations"]]
    return dict(re.findall(r"<b><span style='[^']*'>([^<]*)</span></b>  (.*)", "\n".join(texts)))


def markers(figure: dict) -> dict[str, int]:
    """How many points each run has in a figure."""
    return {trace["name"]: len(trace["x"]) for trace in figure["data"] if "marker" in trace}


def plane_labels(page: str) -> list[str]:
    return [note["text"] for note in figures(page)[0]["layout"]["annotations"] if note.get("name") == "label"]


def test_learned_languages_come_first_with_their_change(draw, results) -> None:
    page = draw(results)
    table = page[page.index("Per language") :]
    assert table.index("Swahili") < table.index("English")
    assert "▼ -25.0 %" in table
    assert "▲ +25.0 %" in table


def test_the_page_asks_nothing_of_the_network(draw, results, origin) -> None:
    page = draw(results, lingraft=origin).replace(get_plotlyjs(), "")
    assert not re.search(r"https?://|src=|@import|url\(", page)
    assert "default-src 'none'" in page


def test_only_the_two_scripts_that_the_policy_names_can_run(draw, results) -> None:
    page = draw(results)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    of_scripts = re.search(r"script-src ([^;]*);", policy)[1].split()
    run = Scripts(page).run
    assert len(run) == 2
    assert of_scripts == [f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in run]
    assert run[0] == get_plotlyjs()


def test_what_others_wrote_is_shown_and_not_run(draw, results, origin, limit) -> None:
    results["base"] = results["model"] = HOSTILE
    results["languages"][HOSTILE] = entry("retain", 1.0, 1.1)
    results["tasks"] = {HOSTILE: task(0.5, 0.4)}
    results["samples"] = [
        {"language": HOSTILE, "prompt": HOSTILE, "text": HOSTILE, "before": HOSTILE, "after": HOSTILE}
    ]
    origin |= {"method": {"name": HOSTILE, "x": HOSTILE}, "plan": HOSTILE, "versions": {HOSTILE: HOSTILE}}
    origin["stack"][0]["part"] = origin["corpus"][0]["language"] = HOSTILE
    origin |= {"penalties": {HOSTILE: {HOSTILE: HOSTILE}}, "replay": {HOSTILE: HOSTILE}}
    origin |= {"early_stopping": {HOSTILE: HOSTILE}, "export": {"dtype": HOSTILE, "form": HOSTILE}}
    chosen = point(0.1, 0.1, 0.1, **{HOSTILE: 1.0})
    results["max_forgetting"] = limit | {"chosen": chosen, "points": [chosen]}
    log = [{f"loss_{HOSTILE}": 1.0, "local_l1": 1.0, "step": 1}, {f"eval_{HOSTILE}_loss": 1.0, "step": 1}]
    training = {"log": log, "gates": {HOSTILE: [1.0]}}
    page = draw(results, results, names=("<b>name", "b"), lingraft=origin, training=training, recipe=HOSTILE)
    scripts = Scripts(page)
    assert len(scripts.run) == 2
    assert "<" not in "".join(scripts.data)
    assert not any("alert" in name for name, _ in scripts.attributes)
    assert scripts.shown.count(HOSTILE) > 10
    assert "<b>name" in scripts.shown


def test_plotly_is_given_names_as_text(draw, results, origin) -> None:
    origin["method"]["name"] = "<i>%{x}</i>"
    drawn = figures(draw(results, lingraft=origin))
    assert "<i>" not in json.dumps(drawn)
    assert "hovertemplate" not in json.dumps(drawn)
    assert drawn[0]["data"][1]["hovertext"][0].startswith("<b>&lt;i&gt;%{x}&lt;/i&gt;</b>")


def test_several_runs_stand_in_one_table(draw, results) -> None:
    page = draw(results, {**results, "learning": 0.5})
    assert "2 runs" in page
    assert "+50.0 %" in page
    assert '<a href="#run-2">' in page


def test_results_without_a_base_are_drawn_too(draw, results) -> None:
    for of in results["languages"].values():
        of["bits_per_byte"] = {"after": 1.5}
        of["perplexity"] = {"after": 30.0}
    results["tasks"] = {"cloze": task(0.5, 0.4)}
    results["tasks"]["cloze"]["languages"]["eng_Latn"]["score"] = {"after": 0.625}
    del results["learning"], results["forgetting"], results["tasks"]["cloze"]["forgetting"]
    results["base"] = None
    page = draw(results)
    assert "1.5000" in page
    assert "62.5" in page
    assert "Learning against forgetting" not in page


def test_results_in_the_words_of_an_earlier_version_are_drawn_alike(draw, results) -> None:
    earlier = json.loads(json.dumps(results))
    for task in earlier["tasks"].values():
        for entry in task["languages"].values():
            entry["accuracy"] = entry.pop("score")
    assert draw(earlier) == draw(results, names=("of-this-version",)).replace("of-this-version", "first")


def test_documents_that_share_measured_text_stand_in_a_table_with_the_first(draw, results) -> None:
    first = {"place": "swh.jsonl:17", "kind": "n-gram", "source": "evaluation.text swh_Latn", "passage": HOSTILE}
    counts = {"kinds": {"n-gram": 1234}, "sources": {"evaluation.text swh_Latn": 1234}}
    entry = {"stage": "adapt", "language": "swh_Latn", "documents": 90000, "left_out": 1234}
    results["overlap"] = [{**entry, **counts, "first": first}, {"language": "eng_Latn", "documents": 7, "left_out": 0}]
    page = Scripts(draw(results))
    for text in ("90,000", "n-gram 1,234", "evaluation.text swh_Latn 1,234", f"swh.jsonl:17: “{HOSTILE}”"):
        assert text in page.shown
    generated = {"language": "self-generated", "documents": 200, "left_out": 0, "trained": 3}
    results["overlap"] = [generated, {**generated, "trained": 2}]
    page = draw(results, names=("generated",))
    assert page.count('<td class="lost">3</td>') == 1  # more than one in a hundred
    assert '<td class="lost">2</td>' not in page
    del results["overlap"]
    assert "Overlap" not in Scripts(draw(results, names=("again",))).shown


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no results.json"), ("[]", "not a results file"), ('{"schema": 2}', "reads schema 1")],
)
def test_a_folder_without_results_is_refused(tmp_path, content, message) -> None:
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(UserError, match=message):
        lingraft.report([tmp_path], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("name", ["lingraft.json", "training.json"])
def test_a_broken_file_beside_the_results_is_named(draw, results, tmp_path, name) -> None:
    with pytest.raises(UserError, match=f"{name}: this is not a file of lingraft"):
        draw(results, **{name.removesuffix(".json"): "{"})


def test_every_key_of_the_origin_may_be_missing(draw, results, origin, tmp_path) -> None:
    for i, key in enumerate(origin):
        draw(results, names=(f"{i}",), lingraft={k: v for k, v in origin.items() if k != key}, training={})
    del results["tasks"]
    draw(results, names=("bare",))


def test_every_figure_is_one_that_plotly_knows(draw, results, origin, limit) -> None:
    results |= {"tasks": {"cloze": task(0.5, 0.4)}, "max_forgetting": limit}
    log = [{"loss": 2.0, "loss_swh_Latn": 2.0, "local_l1": 1.0, "l2sp_first": 1e-4, "step": 10}]
    log.append({"eval_eng_Latn_loss": 1.0, "step": 20})
    drawn = figures(draw(results, results, lingraft=origin, training={"log": log, "gates": {"swh_Latn": [0.5]}}))
    assert len(drawn) == 1 + 2 + 1 + 2 * 5
    for figure in drawn:
        plotly.graph_objects.Figure(figure)  # raises where a key or a value is not plotly's


def test_runs_of_one_method_are_told_apart_by_their_names(draw, results, origin) -> None:
    assert plane_labels(draw(results, results, lingraft=origin)) == ["base", "layra first", "layra second"]


def test_folders_of_one_name_are_told_apart_by_those_above(draw, results) -> None:
    assert plane_labels(draw(results, results, names=("a/run", "b/run"))) == ["base", "a/run", "b/run"]


def test_a_run_without_both_sums_is_left_out_of_the_plane_by_name(draw, results) -> None:
    page = draw(results, {key: value for key, value in results.items() if key != "forgetting"})
    assert plane_labels(page) == ["base", "first"]
    assert "Not drawn, since a sum is missing: second" in page


def test_a_run_looks_the_same_in_every_figure(draw, results) -> None:
    looks: dict[str, set[tuple[str, str]]] = {}
    for figure in figures(draw(results, results)):
        for trace in figure["data"]:
            if "marker" in trace:
                looks.setdefault(trace["name"], set()).add((trace["marker"]["color"], trace["marker"]["symbol"]))
    assert {name: len(of) for name, of in looks.items()} == {"base": 1, "first": 1, "second": 1}
    assert looks["first"] != looks["second"]


def test_a_change_counts_as_lost_where_its_whole_interval_does(draw, results) -> None:
    results["languages"]["eng_Latn"] = entry("retain", 1.0, 1.25, half=0.2)
    results["languages"]["spa_Latn"] = entry("retain", 1.0, 1.25, half=0.3)
    retained = figures(draw(results))[2]
    kept, lost = (trace for trace in retained["data"] if trace["mode"] == "lines")
    assert len(kept["x"]) == len(lost["x"]) == 3
    bold = [note["text"] for note in retained["layout"]["annotations"] if "+25.0" in note["text"]]
    assert ["D55E00" in text for text in bold] == [True, False]


@pytest.mark.parametrize(("half", "is_lost"), [(0.2, True), (0.3, False)])
def test_forgetting_of_all_counts_as_lost_where_that_of_a_language_does(draw, results, half, is_lost) -> None:
    results["languages"]["eng_Latn"] = entry("retain", 1.0, 1.25, half=half)
    assert ('<div class="lost"><b>+25.0 %</b> forgetting' in draw(results)) == is_lost


def test_losses_are_drawn_per_language_and_the_sum_only_without_them(draw, results) -> None:
    log = [{"loss": 2.0, "loss_swh_Latn": 2.1, "step": 10}, {"eval_eng_Latn_loss": 1.0, "eval_loss": 3.0, "step": 0}]
    training, validation = figures(draw(results, training={"log": log}))[-2:]
    assert [(line["name"], line["y"]) for line in training["data"]] == [("swh_Latn", [2.1])]
    assert [(line["name"], line["x"]) for line in validation["data"]] == [("eng_Latn", [0])]
    (only,) = figures(draw(results, names=("x",), training={"log": [{"loss": 2.0, "step": 10}]}))[-1:]
    assert [line["name"] for line in only["data"]] == ["all"]


def test_the_stack_stands_on_its_embeddings_and_says_what_trained(draw, results, origin) -> None:
    page = draw(results, lingraft=origin)
    parts = re.findall(r'<li class="([^"]*)" title="([^:]*): ([^,]*),', page)
    assert parts == [
        ("frozen head", "head", "frozen"),
        ("adapters first", "layer 0", "adapters"),
        ("full embeddings", "embeddings", "full-rank"),
    ]


def test_numbers_are_copied_as_they_were_measured(draw, results) -> None:
    results["languages"]["eng_Latn"]["bits_per_byte"]["after"] = 1.23456789
    assert '<td data-value="1.23456789">1.2346</td>' in draw(results)


def test_samples_carry_their_language_and_find_their_direction(draw, results) -> None:
    results["samples"] = [{"language": "arb_Arab", "prompt": "مرحبا", "text": "x", "before": "y", "after": "z"}]
    assert '<span dir="auto" lang="arb-Arab">مرحبا</span>' in draw(results)


def test_a_language_stands_under_the_role_it_has_in_each_run(draw, results) -> None:
    later = {**results, "languages": {"glg_Latn": entry("learn", 2.0, 1.0), "swh_Latn": entry("retain", 3.0, 3.3)}}
    _, learned, retained = figures(draw(results, later))
    assert headings(learned) == {"Galician": "glg_Latn · base 2.000", "Swahili": "swh_Latn · base 4.000"}
    assert headings(retained) == {"English": "eng_Latn · base 1.000", "Swahili": "swh_Latn · base 3.000"}
    assert markers(learned) == markers(retained) == {"first": 1, "second": 1}


def test_a_task_says_the_role_of_a_language_only_where_all_runs_agree(draw, results) -> None:
    learned = task(0.5, 0.6)
    learned["languages"]["eng_Latn"]["role"] = "learn"
    runs = [{**results, "tasks": {"cloze": of}} for of in (task(0.5, 0.4), learned)]
    assert headings(figures(draw(*runs))[3]) == {"English": "base 50.0"}
    assert headings(figures(draw(runs[0], names=("alone",)))[3]) == {"English": "retained · base 50.0"}


@pytest.mark.parametrize("name", ["results", "lingraft", "training"])
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_not_finite_is_refused_when_it_is_read(draw, results, name, number) -> None:
    of = results if name == "results" else {}
    text = json.dumps({**of, "seconds": "here"}).replace('"here"', number)
    with pytest.raises(UserError, match=rf"{name}\.json: {number} is not a number"):
        draw(results, **{name: text})


@pytest.mark.parametrize("name", ["results", "lingraft", "training"])
@pytest.mark.parametrize("number", ["1e308", "-1e300", "2e15", "1" + "0" * 400, "1" + "0" * 5000])
def test_a_number_that_nothing_has_is_refused_when_it_is_read(draw, results, name, number) -> None:
    of = results if name == "results" else {}
    text = json.dumps({**of, "seconds": "here"}).replace('"here"', number)
    with pytest.raises(UserError, match=rf"{name}\.json: {number[:40]}… is not|{name}\.json: {number} is not"):
        draw(results, **{name: text})


@pytest.mark.parametrize("name", ["results", "lingraft", "training"])
@pytest.mark.parametrize("depth", [70, 100_000])
def test_values_too_deep_in_each_other_are_refused(draw, results, name, depth) -> None:
    of = results if name == "results" else {}
    text = json.dumps({**of, "penalties": "here"}).replace('"here"', '{"a":' * depth + "1" + "}" * depth)
    with pytest.raises(UserError, match=rf"{name}\.json: values are nested (deeper than 64 levels|too deeply)"):
        draw(results, **{name: text})


def test_half_a_character_is_refused(draw, results) -> None:
    with pytest.raises(UserError, match=r"results\.json: base: holds a lone surrogate"):
        draw(results, results=json.dumps({**results, "base": "here"}).replace("here", "\\ud800"))


@pytest.mark.parametrize("bits", [5e-324, 1e-300, -1e-12])
def test_a_number_too_small_to_be_the_whole_of_a_percentage_is_refused(draw, results, bits) -> None:
    results["languages"]["swh_Latn"]["bits_per_byte"]["before"] = bits
    with pytest.raises(UserError, match="should be 0 or at least 1e-09"):
        draw(results)


def base_rows(page: str) -> list[tuple[str, list[str]]]:
    """Rows of bases in the table of all runs, with the numbers they show."""
    rows = re.findall(r'<tr class="soft"><th[^>]*>(base[^<]*)</th>(.*?)</tr>', page, re.DOTALL)
    return [(name, re.findall(r">(\d[^<]*)</td>", cells)) for name, cells in rows]


def test_runs_on_one_base_share_its_row_whatever_languages_they_measured(draw, results) -> None:
    other = {**results, "languages": {"eng_Latn": entry("retain", 1.0, 1.1), "glg_Latn": entry("learn", 2.0, 1.0)}}
    assert base_rows(draw(results, other)) == [("base", ["2.0000", "4.0000", "1.0000"])]


def test_bases_that_contradict_each_other_have_a_row_each(draw, results) -> None:
    other = {**results, "languages": {"eng_Latn": entry("retain", 1.5, 1.6)}}
    assert base_rows(draw(results, other)) == [("base 1", ["4.0000", "1.0000"]), ("base 2", ["1.5000"])]
    named = {**results, "base": "another", "languages": {"glg_Latn": entry("learn", 2.0, 1.0)}}
    rows = base_rows(draw(results, named, names=("a", "b")))
    assert rows == [("base 1", ["4.0000", "1.0000"]), ("base 2", ["2.0000"])]


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("lingraft", {"method": "layra"}, "method"),
        ("lingraft", {"stack": [{}]}, "stack.0.part"),
        ("lingraft", {"weights": {"base": {"head": "many"}, "trained": {}}}, "weights.base.head"),
        ("lingraft", {"corpus": [{"language": "swh_Latn"}]}, "corpus.0.documents"),
        ("lingraft", {"export": {"dtype": 1}}, "export.dtype"),
        ("lingraft", {"tokens": None}, "tokens"),
        ("lingraft", {"steps": "many"}, "steps"),
        ("training", {"log": [1]}, "log.0"),
        ("training", {"log": [{"loss": "low", "step": 1}]}, "log.0.loss"),
        ("training", {"seconds": "long"}, "seconds"),
        ("training", {"best_step": 1.5}, "best_step"),
        ("training", {"gates": [0.5]}, "gates"),
        ("training", {"gates": {"swh_Latn": []}}, "gates.swh_Latn"),
        ("training", {"gates": {"swh_Latn": ["open"]}}, "gates.swh_Latn.0"),
        ("lingraft", {"penalties": {"l2sp": 0.1}}, "penalties.l2sp"),
        ("lingraft", {"replay": 0.2}, "replay"),
        ("lingraft", {"early_stopping": 6}, "early_stopping"),
        ("lingraft", {"export": {"dtype": "float32", "form": 1}}, "export.form"),
    ],
)
def test_a_part_of_a_wrong_form_beside_the_results_is_named_with_its_file(draw, results, name, content, place) -> None:
    with pytest.raises(UserError, match=rf"{name}\.json: this is not a file of lingraft \({re.escape(place)}:"):
        draw(results, **{name: content})


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"languages": {"swh_Latn": {"role": "learn", "bytes": 1}}}, "languages.swh_Latn.bits_per_byte"),
        ({"languages": {"swh_Latn": entry("learn", 2.0, 1.0) | {"role": "new"}}}, "languages.swh_Latn.role"),
        ({"measured": {}}, "measured.max_length"),
        ({"tasks": {"cloze": {"languages": {"swh_Latn": {}}}}}, "tasks.cloze.languages.swh_Latn.role"),
        ({"samples": [{"language": "swh_Latn"}]}, "samples.0.prompt"),
        ({"learning": None}, "learning"),
    ],
)
def test_results_of_a_wrong_form_are_named_with_their_file(draw, results, change, place) -> None:
    with pytest.raises(UserError, match=rf"results\.json: this is not a results file of lingraft \({place}:"):
        draw({**results, **change})


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"limit": "little"}, "limit"),
        ({"layers": {"first": 2}}, "layers.last"),
        ({"chosen": {}}, "chosen.scales"),
        ({"chosen": point(0.1, 0.1, 0.1)}, "chosen.scales"),
        ({"points": [{"scales": {"first": 1.0}}]}, "points.0.learning"),
        ({"points": [point(0.1, 0.1, 0.1, head=1.0)]}, ""),
    ],
)
def test_a_limit_of_a_wrong_form_is_named_with_its_file(draw, results, limit, change, place) -> None:
    named = ".".join(filter(None, ("max_forgetting", place)))
    with pytest.raises(UserError, match=rf"results\.json: this is not a results file of lingraft \({named}:"):
        draw({**results, "max_forgetting": limit | change})


def test_a_comparison_is_measured_whole_or_not_at_all(draw, results) -> None:
    del results["languages"]["swh_Latn"]["bits_per_byte"]["delta"]
    with pytest.raises(UserError, match=r"swh_Latn\.bits_per_byte: .*'before' without 'delta'"):
        draw(results)


def test_without_an_interval_none_is_drawn_or_printed_and_nothing_is_called_lost(draw, results) -> None:
    for entry in results["languages"].values():
        del entry["bits_per_byte"]["ci95"]
    accuracy = {"before": 1.0, "after": 0.0, "delta": -1.0}
    of_task = {"languages": {"eng_Latn": {"role": "retain", "chance": 0.5, "score": accuracy}}}
    page = draw({**results, "tasks": {"cloze": of_task}}, {**results, "model": "other"})
    shown = Scripts(page).shown
    assert "none: one document" in shown
    assert not re.search(r"[+-]\d[\d.]* to [+-]\d", shown)
    assert "▲ +25.0 %" in shown
    assert 'class="lost" data-value' not in page
    bars = [trace["error_x"] for figure in figures(page) for trace in figure["data"] if "error_x" in trace]
    assert bars
    assert not any(any(bar["array"] + bar["arrayminus"]) for bar in bars)
    assert "95 %:" not in page.replace(get_plotlyjs(), "")


def cells(page: str, code: str) -> list[str]:
    """The row of a language in the table of a run."""
    row = re.search(rf'<th class="left" scope="row">[^\n]*{code}[^\n]*</th>(.*?)</tr>', page, re.DOTALL)[1]
    return re.findall(r"<td[^>]*>([^<]*)</td>", row)


def test_a_language_without_perplexity_has_empty_cells(draw, results) -> None:
    del results["languages"]["swh_Latn"]["perplexity"]
    page = draw(results)
    assert cells(page, "swh_Latn")[-3:] == ["", "", "12,345"]
    assert len(cells(page, "swh_Latn")) == len(cells(page, "eng_Latn"))
    del results["languages"]["swh_Latn"]["bits_per_byte"]["before"]
    assert len(cells(draw(results, names=("x",)), "swh_Latn")) == len(cells(page, "eng_Latn"))


def test_a_base_of_no_bits_leaves_the_change_empty(draw, results) -> None:
    results["languages"]["eng_Latn"] = entry("retain", 0.0, 1.25)
    page = draw(results, results)
    assert cells(page, "eng_Latn")[1:6] == ["0.0000", "1.2500", "+1.2500", "+1.1500 to +1.3500", ""]
    assert len(figures(page)) == 2  # the plane and the learned language; a share of nothing cannot be drawn


def test_a_language_of_private_use_stands_there_as_its_code_alone(draw, results, origin) -> None:
    results["languages"] = {"qaa_Latn": entry("retain", 1.0, 1.1), "swh_Latn": entry("learn", 4.0, 3.0)}
    results["samples"] = [{"language": "qaa_Latn", "prompt": "x", "after": "z"}]
    origin["corpus"][0]["language"] = "qaa_Latn"
    page = draw(results, results, lingraft=origin)
    assert "private-use" not in page
    assert not re.search(r"qaa_Latn\s*<(small|i)>qaa_Latn", page)
    assert "Swahili <small>swh_Latn</small>" in page
    assert headings(figures(page)[2]) == {"qaa_Latn": "base 1.000"}


def test_the_caption_says_what_lies_on_either_side_of_the_line(draw, results) -> None:
    page = draw(results)
    assert "left of the line is learned, right is worse than the base." in page
    assert "left of the line is gained, right is lost." in page


def limit_figure(page: str) -> dict:
    """The figure that shows a limit on forgetting."""
    return next(figure for figure in figures(page) if any("limit" in text for text in notes(figure)))


def notes(figure: dict) -> list[str]:
    return [note["text"] for note in figure["layout"].get("annotations", [])]


def rows_of(page: str, first_heading: str) -> list[list[str]]:
    """The rows of the table whose first column has this heading, as they are read."""
    table = next(table for table in re.findall(r"<table>.*?</table>", page, re.DOTALL) if f">{first_heading}<" in table)
    rows = re.findall(r"<tr>(.*?)</tr>", table.split("<tbody>")[1], re.DOTALL)
    return [[re.sub(r"<[^>]*>", "", cell).strip() for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]


def test_the_curve_goes_from_the_base_through_the_points_with_one_factor_in_their_order(draw, results, limit) -> None:
    curve = limit_figure(draw({**results, "max_forgetting": limit}))["data"][0]
    assert curve["mode"] == "lines"
    assert list(zip(curve["x"], curve["y"], strict=True)) == [
        pytest.approx(place) for place in [(0, 0), (0.5, 10), (0.9, 15), (4, 30)]
    ]


def test_points_of_the_curve_are_named_by_their_factor_and_the_chosen_one_as_such(draw, results, limit) -> None:
    texts = notes(limit_figure(draw({**results, "max_forgetting": limit})))
    assert texts[-5:] == ["limit 1 %", "base", "0.5", "1", "chosen"]
    limit["chosen"] = limit["points"][2]
    texts = notes(limit_figure(draw({**results, "max_forgetting": limit}, names=("on the curve",))))
    assert texts[-1] == "chosen: 0.625"


def test_points_whose_factors_differ_are_small_marks_beside_the_curve(draw, results, limit) -> None:
    marks = limit_figure(draw({**results, "max_forgetting": limit}))["data"][1:]
    assert [(trace["name"], len(trace["x"])) for trace in marks] == [
        ("factors that differ", 2),
        ("one factor", 3),
        ("base", 1),
        ("first", 1),
    ]
    sizes = [trace["marker"]["size"] for trace in marks]
    assert max(sizes[:2]) < min(sizes[2:])


def test_the_whisker_of_the_chosen_point_ends_where_its_forgetting_does_at_most(draw, results, limit) -> None:
    figure = limit_figure(draw({**results, "max_forgetting": limit}))
    chosen = figure["data"][-1]
    assert chosen["x"][0] + chosen["error_x"]["array"][0] == pytest.approx(0.95)
    (line,) = figure["layout"]["shapes"]
    assert line["x0"] == line["x1"] == pytest.approx(1.0)


def test_what_is_kept_stands_in_a_table_with_what_it_learns_and_forgets(draw, results, limit) -> None:
    page = draw({**results, "max_forgetting": limit})
    assert rows_of(page, "layer group") == [["first 2 layers", "0.8"], ["middle layers", "0"]]
    assert rows_of(page, "on the selection split") == [
        ["learning", "+20.00 %"],
        ["forgetting", "+0.80 %"],
        ["upper end of forgetting", "+0.95 %"],
        ["limit", "1.00 %"],
        ["candidates", "5"],
    ]


def test_every_candidate_stands_in_a_table(draw, results, limit) -> None:
    rows = rows_of(draw({**results, "max_forgetting": limit}), "candidate")
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "5, chosen"]
    assert rows[2] == ["3", "0.625", "0.625", "+15.00 %", "+0.90 %", "+0.99 %"]


def test_the_page_says_which_text_decided_only_where_one_did(draw, results, limit) -> None:
    said = "These figures are measured on the selection split, which is excluded from the results above."
    assert said in draw({**results, "max_forgetting": limit})
    assert "Scale selection" not in draw(results, names=("without",))


def test_a_limit_that_leaves_nothing_is_said_and_drawn(draw, results, limit) -> None:
    limit["chosen"] = point(0.0, 0.0, 0.0, first=0.0, middle=0.0)
    page = draw({**results, "max_forgetting": limit})
    assert "here that is nothing" in page
    assert notes(limit_figure(page))[-1] == "chosen: 0"


def test_what_stands_beside_a_method_is_said_with_its_settings(draw, results, origin) -> None:
    origin |= {
        "penalties": {"l2sp": {"first": 9, "last": 6, "weight": {"middle": 0.1, "head": 0}}},
        "replay": {"self_generated": 0.2, "loss": "kl", "top_k": 64},
        "early_stopping": {"patience": 6},
    }
    origin["export"]["form"] = "wide-ffn"
    assert (
        "layra · first 1 · penalty l2sp first 9, last 6, weight middle 0.1, head 0 · "
        "replay self_generated 0.2, loss kl, top_k 64 · early stopping patience 6 · exported as wide-ffn · on base"
    ) in draw(results, lingraft=origin)


def test_a_plain_export_is_not_spoken_of(draw, results, origin) -> None:
    origin["export"]["form"] = "plain"
    assert "<p>layra · first 1 · on base" in draw(results, lingraft=origin)


def test_a_step_afterwards_is_silent_on_what_it_was_not_given(draw, results, origin) -> None:
    origin["merge_steps"] = [{"max_forgetting": 0.02, "first": None, "last": 2}]
    assert "Merge steps, in this order: max_forgetting 0.02, last 2." in draw(results, lingraft=origin)


@pytest.mark.parametrize(
    ("best", "said"), [(12, "Training went back to step 12, the best"), (20, "The last step was the best"), (None, "")]
)
def test_the_step_that_training_went_back_to_is_said_where_it_is_known(draw, results, origin, best, said) -> None:
    page = draw(results, lingraft=origin, training={"best_step": best})
    assert ("on the selection split." in page) is bool(said)
    assert said in page


def test_what_the_log_has_beside_languages_has_a_name_and_no_colour(draw, results) -> None:
    log = [{"loss_swh_Latn": 2.0, "loss_self-generated": 1.0, "loss_zul_Latn": 3.0, "step": 10}]
    log.append({"eval_swh_Latn_loss": 1.0, "eval_selection_loss": 1.5, "step": 10})
    training, validation = figures(draw(results, training={"log": log}))[-2:]
    without = figures(
        draw(results, names=("x",), training={"log": [{"loss_swh_Latn": 2.0, "loss_zul_Latn": 3.0, "step": 10}]})
    )
    looks = {line["name"]: line["line"] for line in training["data"]}
    assert looks["self-generated"]["color"] == "#5c6670"
    assert {line["name"]: line["line"] for line in without[-1]["data"]}.items() <= looks.items()
    names = {line["name"]: line["line"]["color"] for line in validation["data"]}
    assert names == {"swh_Latn": looks["swh_Latn"]["color"], "selection split": "#5c6670"}


def test_what_pulls_back_has_a_figure_of_its_own_only_where_something_does(draw, results) -> None:
    log = [{"loss_swh_Latn": 2.0, "local_l1": 0.3 / step, "l2sp_final_norm": 0.01, "step": step} for step in (1, 2, 3)]
    page = draw(results, training={"log": log})
    assert [line["name"] for line in figures(page)[-1]["data"]] == ["local L1", "L2-SP final norm"]
    assert rows_of(page, "term") == [["local L1", "0.3", "0.3", "0.1"], ["L2-SP final norm", "0.01", "0.01", "0.01"]]
    assert "Regularization" not in draw(results, names=("x",), training={"log": [{"loss": 2.0, "step": 1}]})


def test_what_a_penalty_logged_has_a_title_by_layer_group_in_the_models_order_then_others(draw, results) -> None:
    log = [{"l2sp_own": 0.1, "l2sp_head": 0.2, "l2sp_first": 0.3, "other_first": 1.0, "step": 1}]
    lines = figures(draw(results, training={"log": log}))[-1]["data"]
    assert [line["name"] for line in lines] == ["L2-SP first layers", "L2-SP head", "L2-SP own"]


@pytest.mark.parametrize(("small", "kind"), [(1e-5, "log"), (0.1, None), (0.0, None)])
def test_lines_that_lie_far_apart_are_drawn_by_powers_of_ten_unless_one_is_nothing(draw, results, small, kind) -> None:
    page = draw(results, training={"log": [{"local_ce": 0.7, "l2sp_first": small, "step": 1}]})
    assert figures(page)[-1]["layout"]["yaxis"].get("type") == kind
    assert (", by powers of ten." in page) is (kind == "log")


def test_gates_are_drawn_by_layer_and_only_learned_languages_have_a_colour(draw, results) -> None:
    log = [{"loss_swh_Latn": 2.0, "step": 1}]
    gates = {"eng_Latn": [0.0, 0.1], "zul_Latn": [0.1, 0.1], "swh_Latn": [0.5, 0.7]}
    losses, figure = figures(draw(results, training={"log": log, "gates": gates}))[-2:]
    lines = {line["name"]: line for line in figure["data"]}
    assert list(lines) == ["swh_Latn", "eng_Latn", "zul_Latn"]
    assert (lines["swh_Latn"]["x"], lines["swh_Latn"]["y"]) == ([0, 1], [0.5, 0.7])
    assert lines["swh_Latn"]["line"] == losses["data"][0]["line"]
    assert lines["eng_Latn"]["line"]["color"] == lines["zul_Latn"]["line"]["color"] == "#5c6670"


def test_gates_stand_in_tables_as_means_and_layer_by_layer(draw, results) -> None:
    page = draw(results, training={"gates": {"eng_Latn": [0.0], "swh_Latn": [0.5, 0.7]}})
    means = next(table for table in page.split("<table>") if "mean over layers" in table)
    assert re.findall(r"<td data-value[^>]*>([^<]*)", means) == ["0.600", "0.500", "0.700", "0.000", "0.000", "0.000"]
    assert rows_of(page, "layer") == [["0", "0.500", "0.000"], ["1", "0.700", ""]]
    assert "<h3>Gates</h3>" not in draw(results, names=("x",), training={"gates": {}})
