"""Tasks of lm-evaluation-harness: the same as the harness called by hand, item by item."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml

import lingraft
from lingraft.errors import CorpusError, UserError
from lingraft.evaluation.harness import first_line, load_suites
from lingraft.evaluation.paired_changes import corpus_scores
from lingraft.evaluation.task_suites import SUITES

pytestmark = pytest.mark.integration
lm_eval = pytest.importorskip("lm_eval", reason="the extra 'eval' is not installed")

WORDS = ["maji", "nyumba", "moto", "jua", "mwezi", "mto", "samaki", "kitabu", "mti", "ndege"]
SHARED = Path(__file__).parents[3] / "shared/evalsets"


@pytest.mark.parametrize(
    ("generated", "answer"),
    [
        ("  \n\t Moni, dziko.\nEnglish: Hello", "Moni, dziko."),
        ("Moni, dziko.\\nEnglish: Hello", "Moni, dziko."),
        ("Moni, dziko.", "Moni, dziko."),
        ("Moni.  \r\nZina", "Moni."),
        ("", ""),
        ("\\n", ""),
    ],
)
def test_a_translation_ends_where_its_first_line_does(generated, answer) -> None:
    assert first_line(generated) == answer


@pytest.fixture
def datasets(tmp_path) -> Path:
    """XCOPA in Swahili, MGSM in Swahili, and FLORES of English and Swahili, as they are published."""
    folder = tmp_path / "datasets"
    (folder / "xcopa" / "sw").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for split, count in (("val", 2), ("test", 12)):
        items = [
            {
                "premise": f"{' '.join(draw.choice(WORDS, 3))}.",
                "choice1": f"{draw.choice(WORDS)} yake.",
                "choice2": f"{draw.choice(WORDS)} {draw.choice(WORDS)} yangu.",
                "question": ["cause", "effect"][i % 2],
                "label": int(draw.integers(2)),
                "idx": i,
            }
            for i in range(count)
        ]
        (folder / "xcopa" / "sw" / f"{split}.sw.jsonl").write_text("\n".join(map(json.dumps, items)))
    (folder / "mgsm").mkdir()
    (folder / "mgsm" / "mgsm_sw.tsv").write_text("".join(f"Mbili na {i}?\t{2 + i}\n" for i in range(6)))
    for split in ("dev", "devtest"):
        (folder / "flores" / split).mkdir(parents=True)
        for code, word in (("eng_Latn", "fish"), ("swh_Latn", "samaki")):
            lines = "".join(f"{word} {i}\n" for i in range(4))
            (folder / "flores" / split / f"{code}.{split}").write_text(lines)
    return folder


def by_hand(tmp_path, model, tokenizer, config: dict, shots: int, limit: int | None = None) -> list[dict]:
    """The harness's own samples of a task."""
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    (tmp_path / "hand").mkdir(exist_ok=True)
    (tmp_path / "hand" / "task.yaml").write_text(yaml.safe_dump({**config, "task": "by_hand"}))
    results = lm_eval.simple_evaluate(
        HFLM(pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=16),
        tasks=["by_hand"],
        task_manager=TaskManager(include_defaults=False, include_path=str(tmp_path / "hand")),
        num_fewshot=shots,
        limit=limit,
        bootstrap_iters=0,
    )
    return results["samples"]["by_hand"]


def test_xcopa_is_the_harnesss_item_by_item(make_model, documents, datasets, tmp_path) -> None:
    model = make_model(max_position_embeddings=128).float()
    suite = load_suites(["layra"], ["swh_Latn"], str(datasets))[0][0]
    assert suite.title == "xcopa"
    measured = suite.measure(model, documents, 64)["swh_Latn"]
    files = {
        split: str(datasets / "xcopa/sw" / f"{name}.sw.jsonl")
        for split, name in (("validation", "val"), ("test", "test"))
    }
    root = Path(lm_eval.__file__).parent / "tasks/xcopa/default_sw.yaml"
    config = {
        "include": str(root),
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files},
    }
    samples = by_hand(tmp_path, model, documents.tokenizer, config, 0)
    assert measured.values["acc"].tolist() == [sample["acc"] for sample in samples]
    assert 0 < measured.values["acc"].mean() < 1  # else the order could be any
    assert measured.chance == 0.5
    assert documents.tokenizer.pad_token is None  # the harness gives its own one
    again = suite.from_json(json.loads(json.dumps(suite.to_json({"swh_Latn": measured}))))["swh_Latn"]
    assert again.values["acc"].tolist() == measured.values["acc"].tolist()


def test_examples_are_other_questions_where_there_are_no_worked_ones(datasets) -> None:
    suites, _ = load_suites(["layra"], ["swh_Latn"], str(datasets))
    (mgsm,) = [suite for suite in suites if suite.title == "mgsm, 3 shots"]
    (task,) = mgsm.tasks["swh_Latn"]
    task.set_fewshot_seed(1234)
    task.build_all_requests()
    for i, instance in enumerate(task.instances):
        asked = f"Mbili na {i}?"
        assert instance.args[0].count("Swali:") == 4
        assert instance.args[0].count(asked) == 1  # at the end, and not among the examples
        assert instance.args[0].endswith(f"Swali: {asked}\nAnswer:")


@contextmanager
def calls_of(of: type, name: str, seen: list) -> Iterator[None]:
    """Note the first argument of each call of a method."""
    own = getattr(of, name)

    def noted(self, first, *rest, **others):
        seen.append(first)
        return own(self, first, *rest, **others)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(of, name, noted)
        yield


def write_own(tmp_path, splits: dict[str, int], keys: str) -> str:
    """A task of one's own with so many questions in each split; returns the suite's file."""
    folder = tmp_path / "datasets" / "me" / "own"
    (folder / "data").mkdir(parents=True)
    for split, count in splits.items():
        rows = [{"name": f"Jina{i}", "q": f"{split} swali {i}", "a": f"jibu {i}"} for i in range(count)]
        (folder / "data" / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = "".join(f"  - split: {split}\n    path: data/{split}.jsonl\n" for split in splits)
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n")
    named = "".join(f"    {'training' if split == 'train' else split}_split: {split}\n" for split in splits)
    (tmp_path / "own.yaml").write_text(
        f"own:\n{keys}  define:\n    dataset_path: me/own\n    output_type: generate_until\n{named}"
        "    doc_to_text: '{{name}}, {{q}}:'\n    doc_to_target: '{{a}}'\n"
        '    generation_kwargs: {until: ["\\n"], max_gen_toks: 4}\n'
        "    filter_list: [{name: x, filter: [{function: regex, regex_pattern: '(jibu)'}, {function: take_first}]}]\n"
        "    metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n"
    )
    return str(tmp_path / "own.yaml")


@pytest.mark.parametrize("splits", [{"test": 6}, {"validation": 6}, {"test": 6, "train": 3}])
def test_no_question_is_its_own_example(tmp_path, splits) -> None:
    suite_file = write_own(tmp_path, splits, "  shots: 2\n")
    (suite,), _ = load_suites([suite_file], ["swh_Latn"], str(tmp_path / "datasets"))
    (task,) = suite.tasks["swh_Latn"]
    split = "train" if "train" in splits else next(iter(splits))
    for seed in range(5):
        task.set_fewshot_seed(seed)
        task.build_all_requests()
        for instance in task.instances:
            asked = instance.args[0].rpartition("\n\n")[2].strip()
            assert instance.args[0].count(asked) == 1
            assert instance.args[0].count("jibu") == 2
            assert instance.args[0].count(f"{split} swali") == 2 + (split != "train")
            assert asked.startswith("Jina")  # a field of the question, and not the language's name


def test_what_is_scored_otherwise_is_known_to_be_other(tmp_path) -> None:
    suite_file = Path(write_own(tmp_path, {"test": 3}, ""))

    def known() -> dict[str, str]:
        return load_suites([str(suite_file)], ["swh_Latn"], str(tmp_path / "datasets"))[0][0].fingerprint

    first, text = known(), suite_file.read_text()
    suite_file.write_text(text.replace("(jibu)", "(jibu .)"))
    assert known() != first
    suite_file.write_text(text.replace("higher_is_better: true", "higher_is_better: true, ignore_case: true"))
    assert known() != first
    suite_file.write_text(text)
    assert known() == first


def test_a_question_that_cannot_be_asked_is_told_before_anything_is_measured(tmp_path) -> None:
    suite_file = write_own(tmp_path, {"test": 3}, "  shots: 9\n")
    with pytest.raises(CorpusError, match="own, 9 shots, swh_Latn: a question cannot be asked: ValueError"):
        load_suites([suite_file], ["swh_Latn"], str(tmp_path / "datasets"))


def test_a_misspelled_folder_is_no_lack_of_languages(tmp_path, datasets) -> None:
    (tmp_path / "mine.yaml").write_text('xcopa: {task: "xcopa_{alpha2}", folder: xcoppa}')
    with pytest.raises(UserError, match=r"has no folder 'xcoppa' \(did you mean 'xcopa'"):
        load_suites([str(tmp_path / "mine.yaml")], ["swh_Latn"], str(datasets))


def test_two_tasks_of_one_name_are_refused(datasets) -> None:
    from lingraft.evaluation.questions import OwnTask, Question
    from lingraft.evaluation.suites import list_suites

    suites, _ = load_suites(["xcopa_sw"], ["swh_Latn"], str(datasets))
    own = OwnTask({"swh_Latn": [Question(context="a", choices=["b", "c"], answer=0)]}, ["acc"], {})
    with pytest.raises(UserError, match="two tasks are called 'xcopa_sw'"):
        list_suites({}, {"xcopa_sw": own}, suites)


def test_what_cannot_be_measured_is_listed_with_its_reason(datasets) -> None:
    suites, lacking = load_suites(["layra", "xcopa_sw"], ["swh_Latn", "dan_Latn"], str(datasets))
    assert {suite.title for suite in suites} == {"xcopa", "mgsm, 3 shots", "xcopa_sw"}
    assert lacking["xcopa"] == {"dan_Latn": "it has no such language"}
    assert "has no folder facebook/xnli, as the hub has it" in lacking["xnli"]["swh_Latn"]
    with pytest.raises(CorpusError, match="no task of the suites multiblimp can be measured: multiblimp is not"):
        load_suites(["multiblimp"], ["swh_Latn"], str(datasets))
    with pytest.raises(UserError, match=r"lm-evaluation-harness has no task 'xkopa_sw' \(did you mean 'xcopa_sw'"):
        load_suites(["xkopa_sw"], ["swh_Latn"], str(datasets))


def test_the_questions_are_known_by_what_is_asked(datasets) -> None:
    def fingerprints() -> dict[str, dict[str, str]]:
        return {suite.title: suite.fingerprint for suite in load_suites(["layra"], ["swh_Latn"], str(datasets))[0]}

    first = fingerprints()
    assert fingerprints() == first
    file = datasets / "mgsm" / "mgsm_sw.tsv"
    file.write_text(file.read_text().replace("\t2\n", "\t3\n"))
    changed = fingerprints()
    assert changed["xcopa"] == first["xcopa"]
    assert changed["mgsm, 3 shots"] != first["mgsm, 3 shots"]


def test_a_wrong_figure_or_filter_says_what_is_allowed(datasets, tmp_path) -> None:
    for keys, message in (
        ("metric: f1", "xcopa: the task has no figure 'f1'; allowed are acc"),
        ("filter: letter", "xcopa: the task has no filter 'letter'; allowed are none"),
    ):
        (tmp_path / "mine.yaml").write_text(f"xcopa: {{task: 'xcopa_{{alpha2}}', folder: xcopa, {keys}}}")
        with pytest.raises(UserError, match=message):
            load_suites([str(tmp_path / "mine.yaml")], ["swh_Latn"], str(datasets))


def test_a_question_without_a_right_answer_is_not_asked(tmp_path) -> None:
    folder = tmp_path / "parsinlu-entailment"
    folder.mkdir()
    rows = [(1, "e"), (2, "-"), (3, "c"), (4, "n")]  # two of the published questions have the second one's label
    lines = [",sent1,sent2,label,source", *(f"{i},maji {i},moto {i},{label},x" for i, label in rows)]
    for split in ("train", "dev", "test"):
        (folder / f"{split}.csv").write_text("\n".join(lines))
    (suite,), _ = load_suites(["persian"], ["pes_Arab"], str(tmp_path))
    (task,) = suite.tasks["pes_Arab"]
    assert [doc["sent1"] for doc in task.eval_docs] == ["maji 1", "maji 3", "maji 4"]
    text = (SUITES / "persian.yaml").read_text()
    for given, said in (("{label: [E]}", "none of 4 questions has these values"), ("{labl: [e]}", "no field 'labl'")):
        (tmp_path / "mine.yaml").write_text(text.replace("{label: [e, n, c]}", given))
        with pytest.raises(UserError, match=said):
            load_suites([str(tmp_path / "mine.yaml")], ["pes_Arab"], str(tmp_path))


@pytest.mark.parametrize("shots", [0, 2])
def test_a_chat_is_asked_as_the_harness_asks_it(make_model, documents, tmp_path, shots) -> None:
    suite_file = Path(write_own(tmp_path, {"test": 3, "train": 2}, f"  shots: {shots}\n  chat: true\n"))
    model = make_model(max_position_embeddings=256).float()
    (suite,), _ = load_suites([str(suite_file)], ["swh_Latn"], str(tmp_path / "datasets"))
    assert suite.title == ("own, 2 shots, chat" if shots else "own, chat")
    plain = suite.measure(model, documents, 64)["swh_Latn"]  # there is no template
    tokenizer = copy.deepcopy(documents.tokenizer)
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}> {{ m.content }}\n{% endfor %}<assistant>"
    chats = dataclasses.replace(documents, tokenizer=tokenizer)
    asked = []
    spied = calls_of(lm_eval.models.huggingface.HFLM, "tok_batch_encode", asked)
    with spied:
        measured = suite.measure(model, chats, 64)["swh_Latn"]
    prompts = [text for texts in asked for text in texts]
    assert len(prompts) == 3
    assert all(text.startswith("<user> Jina") and text.endswith("<assistant>") for text in prompts)
    assert {text.count("<user>") for text in prompts} == {1 + shots}
    assert len(measured.texts) == len(plain.texts) == 3


def test_translations_are_cut_and_scored_as_sacrebleu_scores_them(make_model, documents, datasets) -> None:
    from sacrebleu import corpus_bleu, corpus_chrf

    model = make_model(max_position_embeddings=256).float()
    suites, _ = load_suites(["family-experts"], ["swh_Latn"], str(datasets), limit=3)
    flores = {suite.title: suite for suite in suites}
    assert set(flores) == {"flores-to-english, 2 shots", "flores-from-english, 2 shots"}
    suite = flores["flores-from-english, 2 shots"]
    measured = suite.measure(model, documents, 64)
    expected, generated = zip(*measured["swh_Latn"].texts, strict=True)
    assert expected == ("samaki 0", "samaki 1", "samaki 2")
    assert all(text == first_line(text) for text in generated)
    results = suite.compare(measured, measured, {"swh_Latn": "learn"})["tasks"]
    chrf = results["flores-from-english, 2 shots, chrf"].languages["swh_Latn"].score
    bleu = results["flores-from-english, 2 shots, bleu"].languages["swh_Latn"].score
    assert chrf.after == corpus_chrf(generated, [expected]).score / 100
    assert bleu.after == corpus_bleu(generated, [expected]).score / 100
    assert chrf.delta == 0
    assert chrf.ci95 is None  # three texts can reject nothing


def test_an_answer_that_does_not_fit_the_model_is_refused(make_model, documents, datasets) -> None:
    suites, _ = load_suites(["layra"], ["swh_Latn"], str(datasets))
    (mgsm,) = [suite for suite in suites if suite.title == "mgsm, 3 shots"]
    with pytest.raises(
        UserError, match="answers of up to 256 tokens are generated, and the context of the model is 64"
    ):
        mgsm.measure(make_model().float(), documents, 64)


def test_chrf_and_bleu_are_of_the_whole_and_their_interval_is_paired() -> None:
    from sacrebleu import corpus_bleu, corpus_chrf

    wanted = ["the fish is in the river today", "a house by the sea", "the sun is red in the evening"] * 4
    worse = [text.replace("the", "one").replace("is", "was") for text in wanted]
    better = [text.replace("is", "was") for text in wanted]
    for metric, by_sacrebleu in (("chrf", corpus_chrf), ("bleu", corpus_bleu)):
        of = {"eng_Latn": list(zip(wanted, better, strict=True))}, {"eng_Latn": list(zip(wanted, worse, strict=True))}
        score = corpus_scores(metric, *of, {"eng_Latn": "retain"}).languages["eng_Latn"].score
        assert score.after == by_sacrebleu(better, [wanted]).score / 100
        assert score.before == by_sacrebleu(worse, [wanted]).score / 100
        low, high = score.ci95
        assert 0 < low < score.delta < high
        assert 0 < score.least_shown < score.delta
        same = corpus_scores(metric, of[0], of[0], {}).languages["eng_Latn"].score
        assert (same.delta, same.least_shown) == (0, 0)  # no text differs


def test_a_run_measures_suites_before_and_after_and_does_not_train_on_them(recipe, texts, datasets, tmp_path) -> None:
    leaked = "maji ya mto na samaki ni ya kijiji"
    first = datasets / "xcopa" / "sw" / "test.sw.jsonl"
    lines = first.read_text().splitlines()
    first.write_text("\n".join([json.dumps({**json.loads(lines[0]), "premise": f"{leaked}."}), *lines[1:]]))
    lines_of_text = texts["swh_Latn"].read_text().splitlines()
    field = next(iter(json.loads(lines_of_text[0])))
    texts["swh_Latn"].write_text("\n".join([*lines_of_text, json.dumps({field: leaked})]))
    (tmp_path / "mine.yaml").write_text('xcopa: {task: "xcopa_{alpha2}", folder: xcopa}')
    recipe["evaluation"] |= {"suites": ["mine.yaml"], "datasets": "datasets", "limit": 8}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    results = lingraft.run(tmp_path / "recipe.yaml", tmp_path / "out")
    task = results["tasks"]["xcopa"]
    assert task["metric"] == "acc"
    assert task["languages"].keys() == {"swh_Latn"}
    assert {"before", "after", "delta", "ci95", "least_shown"} == task["languages"]["swh_Latn"]["score"].keys()
    assert task["languages"]["swh_Latn"]["questions"] == 8
    assert results["lacking"] == {"xcopa": dict.fromkeys(("eng_Latn", "spa_Latn"), "it has no such language")}
    (overlap,) = results["overlap"]
    assert overlap["sources"] == {"evaluation.suites.xcopa swh_Latn": 1}
    again = lingraft.evaluate(
        str(tmp_path / "out/model"),
        against=recipe["base"],
        learn=["swh_Latn"],
        suites=[str(tmp_path / "mine.yaml")],
        datasets=datasets,
        limit=8,
    )
    assert again["tasks"]["xcopa"] == task
    assert again["languages"] == {}
    lingraft.report([tmp_path / "out"], tmp_path / "report.html")
    assert "Not measured" in (tmp_path / "report.html").read_text()


def test_wrong_suites_are_told_before_anything_is_done(recipe, tmp_path) -> None:
    recipe["evaluation"] |= {"suites": ["lyra"], "datasets": str(tmp_path)}
    with pytest.raises(UserError, match=r"evaluation.suites: there is no suite 'lyra'; .*did you mean 'layra'"):
        lingraft.run(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published data sets are not beside the repository")
@pytest.mark.parametrize("task", ["xcopa", "mgsm", "entailment"])
def test_published_files_give_the_harnesss_own_items(make_model, documents, tmp_path, task) -> None:
    """The same files, read by `datasets` alone."""
    model = make_model(max_position_embeddings=2048).float()
    root = Path(lm_eval.__file__).parent / "tasks"
    suite, code, limit, shots, config = {
        "xcopa": ("layra", "ekk_Latn", 40, 0, {
            "include": str(root / "xcopa/default_et.yaml"),
            **read_by("json", test=SHARED / "xcopa/et/test.et.jsonl", validation=SHARED / "xcopa/et/val.et.jsonl"),
        }),
        "mgsm": ("layra", "swh_Latn", 4, 3, {
            "include": str(root / "mgsm/direct/mgsm_direct_sw.yaml"),
            **read_by("json", test=as_records(SHARED / "mgsm/mgsm_sw.tsv", tmp_path / "mgsm.jsonl")),
            "training_split": None, "fewshot_split": "test",
        }),
        "entailment": ("persian", "pes_Arab", 6, 0, {
            **yaml.safe_load((SUITES / "persian.yaml").read_text())["entailment"]["define"],
            **read_by("csv", **{split: SHARED / f"parsinlu-entailment/{file}.csv" for split, file in (
                ("train", "train"), ("validation", "dev"), ("test", "test"))}),
        }),
    }[task]  # fmt: skip
    suites, _ = load_suites([suite], [code], str(SHARED), limit)
    (ours,) = [suite for suite in suites if suite.title.startswith(task)]
    measured = ours.measure(model, documents, 64)[code]
    samples = by_hand(tmp_path, model, documents.tokenizer, config, shots, limit)
    metric, name = ours.metrics[0], ours.filter or samples[0]["filter"]
    theirs = [sample for sample in samples if sample["filter"] == name]
    assert measured.values[metric].tolist() == [float(sample[metric]) for sample in theirs]
    assert len(theirs) == limit
    if measured.texts:
        assert [text for _, text in measured.texts] == [sample["filtered_resps"][0] for sample in theirs]


def read_by(builder: str, **files: Path) -> dict:
    return {
        "dataset_path": builder,
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {split: str(file) for split, file in files.items()}},
    }


def as_records(tsv: Path, out: Path) -> Path:
    """Questions and numbers in the columns of the hub's data set."""
    rows = [line.split("\t") for line in tsv.read_text().rstrip("\n").split("\n")]
    records = [
        {"question": question, "answer": None, "answer_number": int(number.replace(",", "")), "equation_solution": None}
        for question, number in rows
    ]
    out.write_text("\n".join(map(json.dumps, records)))
    return out
