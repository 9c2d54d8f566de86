"""What the page does in a browser: nothing leaves it, all is drawn, it can be read on paper and on a telephone."""

from __future__ import annotations

import json
import shutil
from functools import cache

import pytest

import lingraft
from lingraft.reporting.sweep import SweepResults, draw_sweep

sync_api = pytest.importorskip("playwright.sync_api")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
    pytest.mark.xdist_group("browser"),
]

HOSTILE = "<script>window.hacked=1</script>"
HOSTILE_NAME = "<img src=x onerror=window.hacked=1>"
RUNS = {"layra": (0.381, 0.012), "lora": (0.374, 0.016), "full": (0.412, 0.231), HOSTILE_NAME: (0.379, 0.014)}
LONG_NAME = "unbreakable" * 27
LANGUAGES = {"qad_Latn": "learn", "qaa_Latn": "retain", "qac_Cyrl": "retain"}


def write_run(folder, method: str, learning: float, forgetting: float, long_name: str | None = None) -> None:
    """`long_name` stands wherever a page shows a name that others gave."""
    languages, accuracies = {}, {}
    for code, role in (LANGUAGES | ({long_name: "retain"} if long_name else {})).items():
        change = -learning if role == "learn" else forgetting
        languages[code] = {
            "role": role,
            "bytes": 180000,
            "tokens": {"before": 50000, "after": 50000},
            "bits_per_byte": {"before": 1.5, "after": 1.5 + 1.5 * change, "delta": 1.5 * change, "ci95": [change] * 2},
            "perplexity": {"before": 30.0, "after": 30.0 + change},
        }
        accuracy = {"before": 0.6, "after": 0.6 - change / 2, "delta": -change / 2, "ci95": [-change, change]}
        accuracies[code] = {"role": role, "questions": 400, "chance": 0.25, "score": accuracy}
    groups = ("first", "middle", long_name or "last")
    points = [
        {"scales": dict.fromkeys(groups, i / 10), "learning": i / 30, "forgetting": i * i / 900} for i in range(1, 11)
    ]
    points.append({"scales": dict.fromkeys(groups, 0.9) | {"middle": 0.0}, "learning": 0.28, "forgetting": 0.03})
    points = [{**point, "at_most": point["forgetting"] + 0.005} for point in points]
    limit = {"limit": 0.04, "layers": {"first": 2, "last": 2}, "chosen": points[-1], "points": points}
    results = {
        "schema": 1,
        "base": long_name or "testbed",
        "model": "model",
        "measured": {"max_length": 512, "stride": 256, "bos": True},
        "languages": languages,
        "tasks": {
            name: {"metric": "accuracy", "languages": accuracies} for name in (long_name or "cloze", "translation")
        },
        "samples": [{"language": "qad_Latn", "prompt": HOSTILE, "text": "text", "before": "before", "after": HOSTILE}],
        "learning": learning,
        "forgetting": forgetting,
        "max_forgetting": limit,
    }
    stack = [
        {"part": "embeddings", "group": "embeddings", "weights": 100, "in_full": 100, "in_adapters": 0},
        *({"part": f"layer {i}", "group": "first", "weights": 50, "in_full": 0, "in_adapters": 8} for i in range(12)),
    ]
    if long_name:
        stack[0]["part"] = method = long_name
    weights = {"base": {"embeddings": 100, "first": 600}, "trained": {"embeddings": 100, "first": 96}}
    log = [{"loss_qad_Latn": 5 - i / 10, "eval_qaa_Latn_loss": 2 + i / 100, "step": 10 * i} for i in range(20)]
    log += [
        {"local_l1": 1 / i, "l2sp_first": i / 1e5, "loss_self-generated": 2.0, "step": 10 * i} for i in range(1, 20)
    ]
    gates = {"qad_Latn": [0.5, 0.7, 0.6], long_name or "qaa_Latn": [0.1, 0.0, 0.1]}
    origin = {"method": {"name": method}, "weights": weights, "stack": stack, "plan": "a plan " * 40}
    origin["penalties"] = {long_name or "l2sp": {"first": 9}}
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "lingraft.json").write_text(json.dumps(origin))
    (folder / "training.json").write_text(
        json.dumps({"steps": 190, "best_step": 90, "seconds": 60.0, "gates": gates, "log": log})
    )


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """A page of four runs, three of which lie close together."""
    root = tmp_path_factory.mktemp("runs")
    for name, (learning, forgetting) in RUNS.items():
        write_run(root / name, "layra" if name == HOSTILE_NAME else name, learning, forgetting)
    lingraft.report([root / name for name in RUNS], root / "report.html")
    return (root / "report.html").as_uri()


@pytest.fixture(scope="module")
def address_of_long_names(tmp_path_factory) -> str:
    root = tmp_path_factory.mktemp("long")
    runs = [root / f"{i}{LONG_NAME[:200]}" for i in range(2)]
    for folder in runs:
        write_run(folder, "layra", 0.3, 0.1, LONG_NAME)
    lingraft.report(runs, root / "report.html")
    return (root / "report.html").as_uri()


@pytest.fixture(scope="module")
def address_of_stages(tmp_path_factory) -> str:
    """A page of one run of four stages in twelve languages, whose tokenizer grew, beside a fertility file."""
    root = tmp_path_factory.mktemp("steps")
    write_run(root / "run", "layra", 0.3, 0.1)
    file = root / "run" / "results.json"
    results = json.loads(file.read_text())
    codes = [*LANGUAGES, *(f"qa{letter}_Latn" for letter in "efghijklm")]
    names = ("new tokens", "align", "adapt", HOSTILE)
    languages = [{code: 1.5 + i / 50 - j / 10 for i, code in enumerate(codes)} for j in range(len(names))]
    results["stages"] = [{"name": name, "languages": of} for name, of in zip(names, languages, strict=True)]
    record = {"tokens_per_word": 2.0, "bytes_per_token": 3.0, "byte_share": 0.2, "unknown_share": 0.0, "cost": 1.0}
    results["fertility"] = {when: dict.fromkeys(codes, record) for when in ("before", "after")}
    file.write_text(json.dumps(results))
    (root / "f.json").write_text(json.dumps({"schema": 1, "models": {HOSTILE_NAME: dict.fromkeys(codes, record)}}))
    lingraft.report([root / "run", root / "f.json"], root / "report.html")
    return (root / "report.html").as_uri()


@pytest.fixture(scope="module")
def address_of_sweep(tmp_path_factory):
    """A factory of reports of sweeps with so many settings of three seeds."""

    def draw(settings: int) -> str:
        root = tmp_path_factory.mktemp("sweep")
        recorded, finished, logs = {}, {}, {}
        for i in range(settings):
            for seed in range(3):
                name = f"{i}-{LONG_NAME[:30]}_seed-{seed}"
                write_run(root / name, "layra", 0.3 + i / 100 + seed / 500, 0.2 - i / 200)
                values = {"method.first": i, "method.last": 1, "seed": seed}
                recorded[name] = {"group": f"{i}-{LONG_NAME[:30]}", "values": values}
                finished[name] = json.loads((root / name / "results.json").read_text())
                logs[name] = json.loads((root / name / "training.json").read_text())["log"]
        (root / "report.html").write_text(draw_sweep(SweepResults(recorded, finished, logs)))
        return (root / "report.html").as_uri()

    return cache(draw)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield chromium
        chromium.close()


def opened(browser, address: str, width: int, **settings):
    """A page in a window of this width, drawn; `heard` is what it said and asked for."""
    page = browser.new_page(viewport={"width": width, "height": 900}, **settings)
    page.heard = []
    page.on("console", lambda message: page.heard.append(message.text))
    page.on("pageerror", lambda error: page.heard.append(str(error)))
    page.on("request", lambda request: page.heard.append(request.url))
    page.goto(address)
    page.wait_for_function(
        "document.querySelectorAll('.figure').length === document.querySelectorAll('.js-plotly-plot').length"
    )
    return page


@pytest.fixture(scope="module")
def page(browser, address):
    """The page in a wide window, which tests leave as it is."""
    page = opened(browser, address, 1280)
    yield page
    page.close()


@pytest.fixture
def open_page(browser, address):
    """A factory of pages that a test may change."""
    pages = []

    def call(width: int = 1280, address: str = address, **settings):
        pages.append(opened(browser, address, width, **settings))
        return pages[-1]

    yield call
    for page in pages:
        page.close()


def test_the_page_is_drawn_without_a_word_or_a_request(page, address) -> None:
    assert page.heard == [address]


def test_every_figure_is_drawn(page) -> None:
    marks = page.eval_on_selector_all(
        ".figure", "all => all.map(figure => figure.querySelectorAll('.scatterlayer .trace path').length)"
    )
    assert len(marks) == 1 + 2 + 2 + 5 * len(RUNS)
    assert all(marks)


def test_a_pointed_at_run_says_its_method(page) -> None:
    page.locator("#plane").scroll_into_view_if_needed()
    box = page.locator("#plane .scatterlayer .points path").nth(3).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    text = page.locator("#plane .hoverlayer .hovertext").text_content()
    assert "full" in text
    assert "forgetting +23.1 %" in text


@pytest.mark.parametrize("settings", [7, 20])
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light"), (1280, "dark")])
def test_a_sweep_of_21_and_of_60_runs_is_read_on_every_screen(
    open_page, address_of_sweep, settings, width, scheme
) -> None:
    address = address_of_sweep(settings)
    page = open_page(width, address, color_scheme=scheme)
    assert page.heard == [address]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    rows = "[...document.querySelectorAll('table.sortable tbody tr')].filter(row => !row.hidden).length"
    assert page.evaluate(rows) == settings
    named = page.evaluate("document.querySelector('#plane .figure').layout.annotations.filter(a => a.text).length")
    assert (named > settings) == (settings <= 12)  # with more points than twelve a name shows where one points at it
    assert page.locator("#signs tbody tr").count() > 3
    page.fill("input[type=search]", "6-unbreakable")
    assert 0 < page.evaluate(rows) < settings


def test_a_sweep_can_be_printed(open_page, address_of_sweep, tmp_path) -> None:
    open_page(1280, address_of_sweep(20)).pdf(path=tmp_path / "sweep.pdf")
    assert (tmp_path / "sweep.pdf").stat().st_size > 20_000


@pytest.mark.parametrize("width", [390, 1280])
def test_names_of_points_do_not_hide_each_other_nor_a_point(open_page, page, width) -> None:
    boxes = (page if width == 1280 else open_page(width)).evaluate("""() => {
        const plane = document.querySelector("#plane .figure");
        const box = (element) => {
            const { left, top, right, bottom } = element.getBoundingClientRect();
            return [left, top, right, bottom];
        };
        const numbers = plane.layout.annotations.flatMap(({ name }, i) => (name === "label" ? [i] : []));
        const names = numbers.map((i) => plane.querySelector(`.annotation[data-index="${i}"] text`));
        return { names: names.map(box), points: [...plane.querySelectorAll(".points path")].map(box) };
    }""")
    assert len(boxes["names"]) == len(boxes["points"]) == 1 + len(RUNS)
    for i, name in enumerate(boxes["names"]):
        for other in boxes["names"][:i] + boxes["points"]:
            apart = name[2] <= other[0] or other[2] <= name[0] or name[3] <= other[1] or other[3] <= name[1]
            assert apart, (name, other)


def test_long_names_do_not_make_the_page_scroll_sideways(open_page, address_of_long_names) -> None:
    page = open_page(1280, address_of_long_names)
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(300)
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width


def test_the_page_never_scrolls_sideways(open_page) -> None:
    page = open_page(390)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
    for width in (1280, 768, 390):  # turned or made narrow, the figures follow
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(300)
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width


def test_what_others_wrote_is_text_in_the_browser(page) -> None:
    assert page.locator(".sample", has_text=HOSTILE).first.is_visible()
    assert page.locator("h2", has_text=HOSTILE_NAME).is_visible()
    assert page.locator("#plane .annotation-text", has_text="layra <img").count() == 1
    assert page.evaluate("window.hacked") is None


@pytest.mark.parametrize(("width", "color_scheme"), [(390, "light"), (1280, "dark")])
def test_stages_and_bars_are_drawn_with_every_name_apart_and_inside(
    open_page, address_of_stages, width, color_scheme
) -> None:
    page = open_page(width, address_of_stages, color_scheme=color_scheme)
    assert page.heard == [address_of_stages]
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    assert page.locator("#tokenizers .barlayer .point path").count() == 3 * 12
    for figure in (page.locator("#tokenizers .figure"), page.locator(".figure:has(.xtick:has-text('new tokens'))")):
        edge = figure.bounding_box()
        boxes = [text.bounding_box() for text in figure.locator(".annotation-text, .ytick text").all()]
        assert len(boxes) >= 12
        for i, box in enumerate(boxes):
            assert edge["x"] - 1 <= box["x"]
            assert box["x"] + box["width"] <= edge["x"] + edge["width"] + 1
            assert not any(on(box, other) for other in boxes[:i])
    ticks = [text.bounding_box() for text in page.locator(".run .xtick text").all()]
    assert all(box["x"] >= 0 for box in ticks)


def on(box: dict, other: dict, least: float = 3) -> bool:
    """Whether two boxes of letters lie on each other by more than the space around the letters."""
    across = min(box["x"] + box["width"], other["x"] + other["width"]) - max(box["x"], other["x"])
    down = min(box["y"] + box["height"], other["y"] + other["height"]) - max(box["y"], other["y"])
    return across > least and down > least


def test_the_dark_page_has_light_letters_in_text_and_figures(open_page) -> None:
    page = open_page(color_scheme="dark")
    background = luminance(page, "body", "backgroundColor")
    assert background < 40
    for selector in ("p", "#plane .xtick text", "#bits .annotation-text", "#bits .ytick text", ".legendtext"):
        assert luminance(page, selector, "fill" if " " in selector or "legend" in selector else "color") > 120, selector
    assert luminance(page, "#plane .xgrid", "stroke") < 90


def test_on_paper_the_page_is_light_and_the_figures_fit(open_page) -> None:
    page = open_page(color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 703, "height": 1000})  # A4 between its margins
    assert luminance(page, "#plane .xtick text", "fill") < 130
    assert page.locator("button:visible, .modebar:visible, nav:visible").count() == 0
    boxes = [svg.bounding_box() for svg in page.locator(".figure .main-svg").all()]
    assert all(box["width"] > 250 and box["x"] + box["width"] <= 703 for box in boxes)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 703
    assert page.locator("pre").first.is_visible()


def test_a_table_is_copied_with_every_column_under_its_heading(page) -> None:
    lines = [line.split("\t") for line in page.evaluate("tsv(document.querySelector('#index table'))").split("\n")]
    assert {len(line) for line in lines} == {len(lines[0])}
    assert [line[2] for line in lines] == ["learning", "", *(str(learning) for learning, _ in RUNS.values())]


def test_a_figure_is_saved_as_a_picture(page) -> None:
    before = len(page.heard)
    with page.expect_download() as download:
        page.locator("#plane figcaption button").click()
    assert download.value.suggested_filename == "lingraft.png"
    assert all(url.startswith(("blob:", "data:")) for url in page.heard[before:])


def luminance(page, selector: str, color: str) -> float:
    """0 to 255, of the first element's colour as it is computed."""
    value = page.eval_on_selector(selector, f"element => getComputedStyle(element).{color}")
    red, green, blue = (int(float(x)) for x in value.removeprefix("rgb(").removesuffix(")").split(",")[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
