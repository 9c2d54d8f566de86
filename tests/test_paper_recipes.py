"""The papers' own runs, planned on the shapes of their models; no weights, no text, no network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import transformers

from lingraft.layer_groups import LayerGroup
from lingraft.methods.parameter_counts import Part, by_group
from lingraft.pipeline.plan import Plan, make_plan
from lingraft.recipe import Recipe, load_recipe
from lingraft.recipe.yaml import read_yaml

pytestmark = pytest.mark.integration

FOLDER = Path(__file__).parents[1] / "recipes" / "papers"
STAGED = "persian-llama2-7b"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != STAGED)
LLAMA = [name for name in NAMES if name.startswith("layra-llama-")]
QWEN = [name for name in NAMES if name.startswith("layra-qwen-")]
SERIES = [name for name in NAMES if "-series-" in name]
SINGLE = [f"layra-{base}-{language}" for base in ("llama", "qwen") for language in ("swahili", "urdu", "galician")]
GEMMA_2B = [f"neutral-residues-{language}" for language in ("danish", "french", "hungarian", "slovak")]
NEUTRAL = [*GEMMA_2B, "neutral-residues-multilingual"]
SLAVIC = ["freeze-slavic", "l2sp-slavic"]

GEMMA_3_TEXT = {
    "hidden_size": 2560, "num_hidden_layers": 34, "intermediate_size": 10240, "num_attention_heads": 8,
    "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208, "max_position_embeddings": 131072,
}  # fmt: skip
CONFIGS = {
    "meta-llama/Llama-3.1-8B": transformers.LlamaConfig(
        hidden_size=4096, num_hidden_layers=32, intermediate_size=14336, num_attention_heads=32, num_key_value_heads=8,
        vocab_size=128256, max_position_embeddings=131072, tie_word_embeddings=False,
    ),
    "Qwen/Qwen2.5-7B": transformers.Qwen2Config(
        hidden_size=3584, num_hidden_layers=28, intermediate_size=18944, num_attention_heads=28, num_key_value_heads=4,
        vocab_size=152064, max_position_embeddings=131072, tie_word_embeddings=False,
    ),
    "google/gemma-2b": transformers.GemmaConfig(
        hidden_size=2048, num_hidden_layers=18, intermediate_size=16384, num_attention_heads=8, num_key_value_heads=1,
        head_dim=256, vocab_size=256000, max_position_embeddings=8192, tie_word_embeddings=True,
    ),
    "google/gemma-2-2b": transformers.Gemma2Config(
        hidden_size=2304, num_hidden_layers=26, intermediate_size=9216, num_attention_heads=8, num_key_value_heads=4,
        head_dim=256, vocab_size=256000, max_position_embeddings=8192, tie_word_embeddings=True,
    ),
    "google/gemma-3-4b-pt": transformers.Gemma3Config(
        text_config=transformers.Gemma3TextConfig(**GEMMA_3_TEXT), tie_word_embeddings=True,
        vision_config={
            "hidden_size": 1152, "num_hidden_layers": 27, "intermediate_size": 4304, "num_attention_heads": 16,
            "image_size": 896, "patch_size": 14, "vision_use_head": False,
        },
    ),
}  # fmt: skip
"""The bases' shapes as they are published."""
FIRST_STAGE = {"../../swahili": "meta-llama/Llama-3.1-8B", "../../galician": "meta-llama/Llama-3.1-8B"}
"""Bases that an earlier run makes -> the model that it has the shape of."""


class Planned(NamedTuple):
    recipe: Recipe
    plan: Plan

    @property
    def groups(self) -> dict[LayerGroup, Part]:
        return by_group(self.plan.stack)

    @property
    def language_model(self) -> int:
        """All weights but those of parts that read no text."""
        return sum(part.weights for group, part in self.groups.items() if group != LayerGroup.OUTSIDE)


def values_of(name: str) -> dict[str, Any]:
    return read_yaml(FOLDER / f"{name}.yaml")


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Planned]:
    """A recipe on its base's config alone, with a line of text wherever one is measured, and without its last steps."""
    cache: dict[tuple[str, ...], Planned] = {}
    folder = tmp_path_factory.mktemp("papers")

    def local(name: str) -> list[str]:
        values = values_of(name)
        base = FIRST_STAGE.get(values["base"], values["base"])
        config = folder / base.replace("/", "-") / "config.json"
        config.parent.mkdir(exist_ok=True)
        config.write_text(json.dumps(CONFIGS[base].to_dict()))
        texts = {code: str(folder / file) for code, file in values["evaluation"]["text"].items()}
        for path in texts.values():
            Path(path).touch()
        return [f"base={config.parent}", f"evaluation.text={json.dumps(texts)}", "merge=[]"]

    def plan(name: str, *overrides: str) -> Planned:
        if (name, *overrides) not in cache:
            recipe = load_recipe(FOLDER / f"{name}.yaml", [*local(name), *overrides])
            cache[name, *overrides] = Planned(recipe, make_plan(recipe, next(iter(recipe.stages.values()))))
        return cache[name, *overrides]

    return plan


@pytest.fixture
def steps_after(tmp_path, monkeypatch) -> Callable[[str], list[dict[str, Any]]]:
    """`after:` of a recipe, of the right form, as the file has it."""
    monkeypatch.chdir(tmp_path)

    def read(name: str) -> list[dict[str, Any]]:
        values = values_of(name)
        for file in values["evaluation"]["text"].values():
            Path(file).touch()
        return [step.model_dump() for step in Recipe.model_validate(values).merge]

    return read


@pytest.mark.parametrize("name", NAMES)
def test_it_loads_and_plans_with_all_its_text_known(planned, name) -> None:
    plan = planned(name).plan
    assert plan.steps is not None
    assert plan.adapter_weights + plan.full_weights > 0


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("layra-llama-swahili", 8_030_261_248),
        ("layra-qwen-swahili", 7_615_616_512),
        ("neutral-residues-french", 2_506_172_416),
        ("neutral-residues-multilingual", 2_614_341_888),
        ("freeze-slavic", 4_300_079_472),
    ],
    ids=["Llama 3.1 8B", "Qwen 2.5 7B", "Gemma 2B", "Gemma 2 2B", "Gemma 3 4B"],
)
def test_a_base_has_the_size_that_is_published(planned, name, weights) -> None:
    assert sum(part.weights for part in planned(name).plan.stack) == weights


@pytest.mark.parametrize("name", [*NAMES, STAGED])
def test_it_says_how_it_is_run(name) -> None:
    assert f"#   lingraft run recipes/papers/{name}.yaml " in (FOLDER / f"{name}.yaml").read_text()


@pytest.mark.parametrize("name", LLAMA)
def test_layra_trains_the_papers_weights_of_llama(planned, name) -> None:
    plan = planned(name).plan
    assert (plan.adapter_weights, plan.full_weights) == (7_864_320, 1_050_673_152)


@pytest.mark.parametrize("name", QWEN)
def test_layra_trains_the_papers_weights_of_qwen(planned, name) -> None:
    plan = planned(name).plan
    assert (plan.adapter_weights, plan.full_weights) == (8_650_752, 1_089_994_752)


@pytest.mark.parametrize("name", [*LLAMA, *QWEN])
def test_layra_learns_as_many_tokens_of_every_language(planned, name) -> None:
    assert set(planned(name).plan.tokens.values()) == {1_200_000_000}


@pytest.mark.parametrize("name", [*LLAMA, *QWEN])
def test_layra_has_the_settings_of_table_23(planned, name) -> None:
    recipe = planned(name).recipe
    table = {
        "learning_rate": 3e-4, "lr_scheduler_type": "linear", "warmup_steps": 0.05, "weight_decay": 0.1,
        "adam_beta1": 0.9, "adam_beta2": 0.95, "adam_epsilon": 1e-5, "num_train_epochs": 1,
    }  # fmt: skip
    assert recipe.only.training.items() >= table.items()
    assert recipe.length == 2048


@pytest.mark.parametrize("name", SINGLE)
def test_one_language_goes_onto_the_instruct_model(steps_after, name) -> None:
    assert steps_after(name) == [{"instruct": f"{values_of(name)['base']}-Instruct", "scale": 0.7}]


@pytest.mark.parametrize("name", SERIES)
def test_of_a_second_stage_half_is_kept(steps_after, name) -> None:
    assert steps_after(name) == [{"scale": 0.5}]


def test_a_merge_takes_half_of_each_vector(steps_after) -> None:
    assert steps_after("layra-llama-merge") == [{"scale": 0.5}, {"vectors": {"swahili/adapter": 0.5}}]


@pytest.mark.parametrize("name", GEMMA_2B)
def test_neutral_residues_add_a_fifth_of_gemma_2b(planned, name) -> None:
    of = planned(name)
    depth, width = 18, 2048
    rank = (of.plan.adapter_weights - depth * width) / (3 * depth * width)  # two matrices in, one out, and the gate
    assert rank == pytest.approx(4531, abs=1)
    assert of.plan.adapter_weights == pytest.approx(501e6, rel=1e-3)
    assert of.plan.adapter_weights / of.language_model == pytest.approx(0.2, rel=1e-3)


def test_neutral_residues_add_a_fifth_of_gemma_2_2b(planned) -> None:
    of = planned("neutral-residues-multilingual")
    assert of.plan.adapter_weights / of.language_model == pytest.approx(0.2, rel=1e-3)


@pytest.mark.parametrize("name", NEUTRAL)
def test_neutral_residues_leave_the_base_as_it_is(planned, name) -> None:
    assert planned(name).plan.full_weights == 0


@pytest.mark.parametrize("name", NEUTRAL)
def test_neutral_residues_train_for_the_steps_of_table_8(planned, name) -> None:
    plan = planned(name).plan
    assert (plan.steps, plan.tokens_per_step) == (100_000, 64 * 4096)


@pytest.mark.parametrize("name", NEUTRAL)
def test_the_text_is_what_the_steps_go_through_once(planned, name) -> None:
    plan = planned(name).plan
    assert sum(plan.tokens.values()) == pytest.approx(plan.steps * plan.tokens_per_step, rel=1e-6)


@pytest.mark.parametrize("name", NEUTRAL)
def test_a_tenth_of_the_text_is_of_the_old_languages(planned, name) -> None:
    recipe, plan = planned(name)
    old = sum(count for i, count in plan.tokens.items() if recipe.only.corpus[i].language in recipe.languages.retain)
    assert old / sum(plan.tokens.values()) == pytest.approx(0.1, rel=1e-5)


@pytest.mark.parametrize("name", NEUTRAL)
def test_neutral_residues_have_the_papers_settings(planned, name) -> None:
    recipe = planned(name).recipe
    assert recipe.only.training.items() >= {"learning_rate": 2e-4, "adam_beta1": 0.9, "adam_beta2": 0.95}.items()
    assert (recipe.only.method.gate, recipe.only.method.loss, recipe.only.method.init) == ("relu", "l1", "low-variance")
    assert (recipe.only.method.extra_parameters, recipe.only.method.loss_weight) == (0.2, 0.01)


def test_freezing_trains_44_percent_of_the_layers(planned) -> None:
    groups = planned("freeze-slavic").groups
    layers = [groups[group] for group in (LayerGroup.FIRST, LayerGroup.MIDDLE, LayerGroup.LAST)]
    assert sum(of.in_full for of in layers) / sum(of.weights for of in layers) == pytest.approx(0.44, abs=0.005)


@pytest.mark.parametrize(("embeddings", "share"), [("false", 0.365), ("true", 0.538)], ids=["frozen", "trained"])
def test_freezing_trains_a_part_that_hangs_on_the_embeddings(planned, embeddings, share) -> None:
    of = planned("freeze-slavic", f"method.embeddings={embeddings}")
    assert of.plan.full_weights / of.language_model == pytest.approx(share, abs=0.0005)


def test_l2sp_pulls_on_a_language_model_that_trains_whole(planned) -> None:
    of = planned("l2sp-slavic")
    assert of.plan.full_weights == of.language_model
    assert of.groups[LayerGroup.OUTSIDE].in_full == 0


def test_l2sp_pulls_the_middle_most(planned) -> None:
    l2sp = planned("l2sp-slavic").recipe.only.penalties.l2sp
    assert (l2sp.first, l2sp.last) == (9, 6)
    strengths = [l2sp.of(group) for group in (LayerGroup.FIRST, LayerGroup.MIDDLE, LayerGroup.LAST)]
    assert strengths == [0.001, 0.05, 0.001]


@pytest.mark.parametrize("name", SLAVIC)
def test_a_family_is_5_billion_tokens_in_about_17000_steps(planned, name) -> None:
    plan = planned(name).plan
    assert sum(plan.tokens.values()) == pytest.approx(5e9)
    assert plan.steps == pytest.approx(17_000, rel=0.01)


@pytest.mark.parametrize("name", SLAVIC)
def test_a_family_stops_early(planned, name) -> None:
    recipe = planned(name).recipe
    assert (recipe.only.early_stopping.patience, recipe.only.training["eval_steps"]) == (6, 500)


LLAMA_2 = transformers.LlamaConfig(
    hidden_size=4096, num_hidden_layers=32, intermediate_size=11008, num_attention_heads=32, vocab_size=32000,
    max_position_embeddings=4096, tie_word_embeddings=False,
)  # fmt: skip


@pytest.fixture
def persian(tmp_path) -> Recipe:
    """Resolved on the shape of Llama 2 7B, with a line in every file that a user gives."""
    base = tmp_path / "llama-2"
    LLAMA_2.save_pretrained(base)
    values = values_of(STAGED)
    for entry in values["stages"]["instruct"]["instructions"]:
        entry["files"] = str(tmp_path / entry["files"])
        Path(entry["files"]).write_text('{"instruction": "a", "output": "b"}')
    english = tmp_path / "english.jsonl.gz"
    english.touch()
    values |= {"base": str(base), "evaluation": {"text": {"eng_Latn": str(english)}}}
    vocabulary = values.pop("vocabulary")  # of which a tokenizer is asked that the config alone has not
    recipe = load_recipe(values)
    return recipe.model_copy(
        update={"vocabulary": Recipe.model_validate(values | {"vocabulary": vocabulary}).vocabulary}
    )


def test_persian_has_the_papers_words_stages_and_settings(persian) -> None:
    assert 32_000 + persian.vocabulary.new_tokens == 49_816
    stages = persian.stages
    assert list(stages) == ["align", "adapt", "instruct"]
    assert [stage.method.name for stage in stages.values()] == ["embeddings", "lora", "lora"]
    assert {(stages[name].method.rank, stages[name].method.alpha) for name in ("adapt", "instruct")} == {(8, 32)}
    assert stages["align"].corpus[0].languages == ["eng_Latn", "pes_Arab"]
    assert {entry.language for entry in stages["instruct"].instructions} == {"eng_Latn", "pes_Arab"}


def test_persian_trains_embeddings_and_head_then_lora_beside_them(persian) -> None:
    rows = 49_920  # the next multiple of 128, as 32,000 is one
    align, adapt = (make_plan(persian, persian.stages[name]) for name in ("align", "adapt"))
    assert (align.full_weights, align.adapter_weights) == (2 * rows * 4096, 0)
    assert adapt.full_weights == align.full_weights
    assert adapt.adapter_weights == 32 * 8 * (4 * 2 * 4096 + 3 * (4096 + 11008))
    assert (align.steps, adapt.steps) == (3052, 61036)
