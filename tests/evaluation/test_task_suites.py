"""Suite files: which task of the harness a language has, and what is wrong with a file."""

from __future__ import annotations

import pytest

from lingraft.errors import UserError
from lingraft.evaluation.task_suites import check_suites, list_tasks, read_suite, suite_names


@pytest.mark.parametrize(
    ("suite", "title", "code", "name"),
    [
        ("layra", "xcopa", "swh_Latn", "xcopa_sw"),  # by the macrolanguage
        ("layra", "xcopa", "ekk_Latn", "xcopa_et"),
        ("layra", "xnli", "cmn_Hans", "xnli_zh"),
        ("family-experts", "belebele", "nya_Latn", "belebele_nya_Latn"),
        ("family-experts", "global-piqa", "swh_Latn", "global_piqa_nonparallel_cloze_swh_latn"),
        ("neutral-residues", "hellaswag", "dan_Latn", "hellaswag_da"),
        ("neutral-residues", "hellaswag", "eng_Latn", "hellaswag"),  # named
        ("neutral-residues", "gsm8k", "dan_Latn", None),  # English alone
        ("multiblimp", "multiblimp", "pes_Arab", "multiblimp_fas"),
        ("include", "include", "pes_Arab", "include_base_44_persian"),
        ("include", "include", "nya_Latn", None),
        ("family-experts", "flores-to-english", "eng_Latn", None),  # a translation into English, of English
        ("layra", "xcopa", "qaa_Latn", None),  # without a code of two letters
    ],
)
def test_a_language_names_its_task(suite, title, code, name) -> None:
    assert read_suite(suite)[title].spec(title, code) == name


def test_a_defined_task_has_the_language_in_its_words() -> None:
    task = read_suite("family-experts")["flores-from-english"].spec("flores", "nya_Latn")
    assert task["task"] == "flores_nya_Latn"
    assert task["dataset_name"] == "eng_Latn-nya_Latn"
    assert task["doc_to_text"] == "English: {{sentence_eng_Latn}}\nChichewa:"
    assert task["doc_to_target"] == "{{sentence_nya_Latn}}"


@pytest.mark.parametrize("name", suite_names())
def test_every_suite_of_ours_can_be_read(name) -> None:
    assert read_suite(name)


def test_tasks_of_two_suites_are_told_apart() -> None:
    tasks = list_tasks(["family-experts", "neutral-residues", "layra", "layra"], ["nya_Latn"])
    assert {"belebele, 2 shots", "belebele", "xcopa", "mgsm, 3 shots"} <= tasks.keys()
    assert tasks["belebele"].metric == ["acc_norm"]


def test_a_task_that_ends_with_a_language_of_the_run_is_a_suite() -> None:
    assert list_tasks(["xcopa_sw"], ["eng_Latn", "swh_Latn"])["xcopa_sw"].spec("xcopa_sw", "swh_Latn") == "xcopa_sw"
    assert list_tasks(["xcopa_sw"], ["eng_Latn", "swh_Latn"])["xcopa_sw"].spec("xcopa_sw", "eng_Latn") is None
    with pytest.raises(UserError, match="there is no suite 'xcopa_sw'; allowed are family-experts, include, layra"):
        list_tasks(["xcopa_sw"], ["dan_Latn"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- xcopa", "a suite is a mapping from the title of a task to its keys"),
        ("xcopa: {tsk: xcopa_sw}", "xcopa.tsk: Extra inputs are not permitted; keys of a task are task, folder"),
        ("xcopa: {task: a, define: {}}", "xcopa: give either 'task' .or 'named'., a task of the harness, or 'define'"),
        ("xcopa: {shots: 2}", "xcopa: give either 'task'"),
        ("xcopa: {task: a, shots: -1}", "xcopa.shots: Input should be greater than or equal to 0"),
        ("xcopa: [", "is not YAML"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path, text, message) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_suite(str(tmp_path / "mine.yaml"))


def test_a_folder_of_data_sets_that_is_not_there_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="nowhere is no folder; give one with a folder for each data set"):
        check_suites(["layra"], ["swh_Latn"], str(tmp_path / "nowhere"))
