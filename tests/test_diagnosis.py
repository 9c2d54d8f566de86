"""Diagnoses of a finished run."""

from __future__ import annotations

import json

import numpy as np
import pytest
import sacrebleu
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import lingraft
from lingraft.checkpoints.mmap_weights import MappedWeights
from lingraft.diagnosis.alignment import alignment, propose
from lingraft.diagnosis.finished_run import FinishedRun
from lingraft.diagnosis.gates import POINTS, spectrum
from lingraft.diagnosis.interpolation import interpolation, moved_parameters
from lingraft.diagnosis.lens import UNKNOWN, TokenLanguages, likeliest, script_of
from lingraft.errors import ModelError, OutputError, UserError
from lingraft.evaluation.alignment import sentence_vectors
from lingraft.evaluation.task_scores import Scores, TaskSuite
from lingraft.layer_groups import LayerRange

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def run(shared_recipe, tmp_path_factory):
    """Full training of embeddings, the first two layers, the last one, and the head."""
    recipe = json.loads(json.dumps(shared_recipe))
    recipe["method"] = {"name": "layer-selective", "first": 2, "last": 1}
    out = tmp_path_factory.mktemp("diagnosed") / "out"
    lingraft.run(recipe, out)
    return out, recipe


def test_drift_is_the_norm_of_the_change_by_the_norm_of_the_base(run, tmp_path) -> None:
    out, recipe = run
    found = lingraft.diagnose("drift", out, tmp_path / "drift.json")
    before = load_file(f"{recipe['base']}/model.safetensors")
    after = load_file(out / "model" / "model.safetensors")
    of_layer = [name for name in before if ".layers.1." in name and "mlp" in name]
    moved = sum(float((after[n].float() - before[n].float()).square().sum()) for n in of_layer)
    size = sum(float(before[n].float().square().sum()) for n in of_layer)
    assert found["layers"]["feed-forward"][1] == pytest.approx((moved / size) ** 0.5)
    assert found["layers"]["attention"][2] == 0  # the middle layer
    assert found["groups"]["middle"] == 0
    assert 0 < found["groups"]["first"] < 1
    assert json.loads((tmp_path / "drift.json").read_text()) == found
    assert "Distance from the base by layer" in (tmp_path / "drift.html").read_text()


def test_interpolation_moves_one_group_and_leaves_the_others(run, tmp_path, texts) -> None:
    out, recipe = run
    found = lingraft.diagnose("interpolation", out, tmp_path / "i.json")
    results = json.loads((out / "results.json").read_text())
    assert "middle" not in found["groups"]  # it did not move
    for curve in found["groups"].values():
        assert [point["alpha"] for point in curve] == [0, 0.25, 0.5, 0.75, 1]
        for code, bits in curve[-1]["bits per byte"].items():
            assert bits == pytest.approx(results["languages"][code]["bits_per_byte"]["after"])
    before = load_file(f"{recipe['base']}/model.safetensors")
    after = load_file(out / "model" / "model.safetensors")
    by_hand = tmp_path / "by_hand"
    by_hand.mkdir()
    for file in (out / "model").iterdir():
        if file.name != "model.safetensors":
            (by_hand / file.name).write_bytes(file.read_bytes())
    mixed = {
        name: (before[name].float() + 0.5 * (tensor.float() - before[name].float())).to(tensor.dtype)
        if ".layers.0." in name or ".layers.1." in name
        else tensor
        for name, tensor in after.items()
    }
    save_file(mixed, by_hand / "model.safetensors", metadata={"format": "pt"})
    split = out / "work" / "split"
    measured = lingraft.evaluate(
        by_hand, {code: str(split / f"held-out-{code}.jsonl") for code in results["languages"]}, max_length=32
    )
    half = found["groups"]["first"][2]["bits per byte"]
    for code, bits in half.items():
        assert bits == pytest.approx(measured["languages"][code]["bits_per_byte"]["after"], rel=1e-4)
    assert "What the movement of a group does to bits per byte" in (tmp_path / "i.html").read_text()


class Norms(TaskSuite):
    """A task whose figures say which weights were there."""

    name, title, metrics = "norms", "norms", ("acc",)
    fingerprint = None

    def measure(self, model, tokenizer, max_length):
        weight = model.get_decoder().layers[0].self_attn.q_proj.weight
        return {"swh_Latn": Scores({"acc": np.array([float(weight.norm())])})}


def test_tasks_are_measured_along_the_interpolation(run) -> None:
    out, recipe = run
    found = interpolation(FinishedRun(out), max_documents=1, tasks=[Norms()])
    ends = [
        float(load_file(file)["model.layers.0.self_attn.q_proj.weight"].float().norm())
        for file in (f"{recipe['base']}/model.safetensors", out / "model" / "model.safetensors")
    ]
    along = [point["norms"]["swh_Latn"] for point in found["groups"]["first"]]
    assert [along[0], along[-1]] == pytest.approx(ends)
    assert {point["norms"]["swh_Latn"] for point in found["groups"]["last"]} == {along[-1]}


def test_a_figure_of_all_texts_is_sacrebleus() -> None:
    scores = Scores({}, texts=[("maji ya moto", "maji moto"), ("nyumba", "nyumba")])
    chrf = sacrebleu.corpus_chrf(["maji moto", "nyumba"], [["maji ya moto", "nyumba"]]).score
    assert scores.figure("chrf") == pytest.approx(chrf / 100)


def test_experts_move_with_their_layer(make_model, tmp_path) -> None:
    """In files each is a matrix of its own; in a live model all of a block are one parameter."""
    model = make_model("qwen3_moe")
    model.save_pretrained(tmp_path / "base")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".experts." in name and ".layers.0." in name:
                parameter += 1
    found = moved_parameters(model, MappedWeights(tmp_path / "base"), LayerRange(1, 1, 4))
    assert [str(group) for group in found] == ["first"]
    assert found["first"]
    assert all(".experts." in name for name in found["first"])


def test_the_groups_of_a_run_are_its_methods(run) -> None:
    found = FinishedRun(run[0])
    assert found.layers() == LayerRange(2, 1, 4)
    assert found.layers(first=1) == LayerRange(1, 1, 4)


def test_what_cannot_be_diagnosed_says_why(run, recipe, tmp_path) -> None:
    out, _ = run
    with pytest.raises(UserError, match=r"drfit: allowed are drift, interpolation, lens, gates, alignment \(did"):
        lingraft.diagnose("drfit", out, tmp_path / "x.json")
    with pytest.raises(UserError, match="this is not the folder of a finished run"):
        lingraft.diagnose("drift", tmp_path / "nothing", tmp_path / "x.json")
    with pytest.raises(UserError, match=r"give a name that ends in \.json"):
        lingraft.diagnose("drift", out, tmp_path / "x.html")
    recipe["vocabulary"] = {"new_tokens": 5}
    recipe["training"]["max_steps"] = 1
    lingraft.run(recipe, tmp_path / "new")
    with pytest.raises(ModelError, match=r"is 264x32 in the result and 258x32 in the base"):
        lingraft.diagnose("drift", tmp_path / "new", tmp_path / "x.json")
    assert not (tmp_path / "x.json").exists()
    (tmp_path / "mine.html").write_text("<p>mine</p>")
    with pytest.raises(OutputError, match=r"mine\.html"):
        lingraft.diagnose("drift", out, tmp_path / "mine.json")


def test_alignment_is_the_share_of_pairs_of_which_each_is_the_others_nearest(make_model, documents) -> None:
    sentences = [f"{word} nyumba ya maji na moto {i}" for i, word in enumerate(("samaki", "kitabu", "ndege", "mwezi"))]
    model = make_model(max_position_embeddings=256)
    same = alignment(model, documents, {"a": [(text, text) for text in sentences]}, 256)["a"]
    assert same == [1.0] * len(same)
    shifted = list(zip(sentences, [*sentences[1:], sentences[0]], strict=True))
    assert alignment(model, documents, {"a": shifted}, 256)["a"] == [0.0] * len(same)
    vectors = sentence_vectors(model, documents, sentences, 256)  # (layers + 1, sentences, D)
    ids = torch.tensor([documents.bos_ids + documents.encode(sentences[:1])[0]])
    states = model.get_decoder()(input_ids=ids, output_hidden_states=True).hidden_states
    weights = torch.arange(1, ids.shape[1] + 1)[:, None]
    for layer, state in enumerate(states):
        mean = (state[0] * weights).sum(0) / weights.sum()
        assert torch.allclose(vectors[layer, 0], mean / mean.norm(), atol=1e-5)


def test_the_middle_is_where_sentences_agree() -> None:
    assert propose({"a": [0.1, 0.2, 0.9, 1.0, 0.8, 0.2, 0.1]}) == LayerRange(2, 1, 6)
    assert propose({"a": [0.1, 0.1, 0.2, 0.1, 0.1]}) is None
    assert propose({"a": [0.1, 0.4, *[0.2] * 19]}) is None  # names and words that both sides have
    assert propose({"a": [0.2, *[1.0] * 24, *[0.3] * 8]}) == LayerRange(1, 7, 32)  # early, and later too


def test_a_model_is_diagnosed_with_pairs_of_a_file(run, tmp_path) -> None:
    out, recipe = run
    lines = [
        {"en": f"the house has {i} windows and a red door", "sw": f"nyumba ina madirisha {i} na mlango"}
        for i in range(6)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    files = {"eng_Latn:en,swh_Latn:sw": str(tmp_path / "pairs.jsonl")}
    found = lingraft.diagnose("alignment", recipe["base"], tmp_path / "a.json", pairs=files)
    (of_base,) = found["models"].values()
    assert len(of_base["scores"]["eng_Latn–swh_Latn"]) == 5
    both = lingraft.diagnose("alignment", out, tmp_path / "b.json", pairs=files)
    assert both["models"]["base"]["scores"] == of_base["scores"]
    assert "layer groups proposed" in (tmp_path / "b.html").read_text()
    with pytest.raises(UserError, match="give pairs of sentences, as in --pairs"):
        lingraft.diagnose("alignment", out, tmp_path / "c.json")
    with pytest.raises(UserError, match="give two languages with their fields"):
        lingraft.diagnose("alignment", out, tmp_path / "c.json", pairs={"eng_Latn": str(tmp_path / "pairs.jsonl")})
    with pytest.raises(UserError, match="there is no text in the field 'swa'"):
        lingraft.diagnose("alignment", out, tmp_path / "c.json", pairs={"eng_Latn:en,swh_Latn:swa": files.popitem()[1]})


def test_each_layer_goes_on_with_the_likeliest_token_of_its_state(make_model) -> None:
    model, row = make_model(), [5, 9, 3, 7]
    layers = likeliest(model, [row, row[:2]])
    made = model(torch.tensor([row]), output_hidden_states=True)
    assert layers[-1][:4] == made.logits[0].argmax(-1).tolist()
    state = made.hidden_states[1][0]  # after the first layer
    norm, head = model.get_decoder().norm, model.get_output_embeddings()
    assert layers[1][:4] == head(norm(state)).argmax(-1).tolist()
    assert [len(layer) for layer in layers] == [6] * len(made.hidden_states)


def test_a_token_is_of_the_language_that_has_it() -> None:
    identify = TokenLanguages({"eng_Latn": [[0, 0, 0, 1] * 100], "swh_Latn": [[1, 1], [1, 2]]}, vocabulary=4)
    shares = identify.shares([0, 3])
    assert shares["eng_Latn"] > 0.4  # though a short text may lack it by chance
    assert shares[UNKNOWN] == 0.5
    assert sum(shares.values()) == pytest.approx(1)
    each = 0.5 / 4  # half a token of the shorter text, for both
    assert identify.shares([1])["swh_Latn"] == pytest.approx((3 / 4 + each) / (3 / 4 + each + 1 / 4 + each))


def test_the_script_of_a_token_is_that_of_its_first_letter() -> None:
    found = [script_of(text) for text in (" maji", "1 вода", "水", "...", "", "ماء", "ª", "𝐚")]
    assert found == ["latin", "cyrillic", "han", None, None, "arabic", None, None]


def test_the_layers_of_a_run_are_decoded_in_base_and_result(run, tmp_path) -> None:
    out, _ = run
    found = lingraft.diagnose("lens", out, tmp_path / "lens.json", max_documents=2)
    languages = json.loads((out / "results.json").read_text())["languages"]
    for of_model in found["models"].values():
        assert of_model.keys() == languages.keys()
        for of in of_model.values():
            shares = of["languages"].values()
            assert {len(layer) for layer in shares} == {5}  # four layers and the embeddings
            assert [sum(layer) for layer in zip(*shares, strict=True)] == pytest.approx([1] * 5)
    assert "of the likeliest token by layer" in (tmp_path / "lens.html").read_text()


def test_a_spectrum_is_of_singular_values_by_the_largest() -> None:
    shares = spectrum(torch.diag(torch.tensor([4.0, 2.0, 1.0, 0.0])))
    assert len(shares) == POINTS
    assert (shares[0], shares[POINTS // 3], shares[-1]) == (1, 0.5, 0)


def test_gates_are_as_open_as_the_adapter_opens_them_on_the_measured_text(shared_recipe, tmp_path) -> None:
    recipe, out = json.loads(json.dumps(shared_recipe)), tmp_path / "gated"
    recipe["method"] = {"name": "neutral-residues"}
    lingraft.run(recipe, out)
    found = lingraft.diagnose("gates", out, tmp_path / "gates.json", max_documents=1)
    assert found["singular_values"].keys() == {"0", "1", "2", "3"}
    assert {values[0] for values in found["singular_values"].values()} == {1}
    adapter = load_file(out / "adapter" / "adapter_model.safetensors")
    (gate,) = [weight for name, weight in adapter.items() if ".layers.0." in name and "block_gate" in name]
    model = AutoModelForCausalLM.from_pretrained(recipe["base"], dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(recipe["base"])
    seen: list[torch.Tensor] = []
    model.model.layers[0].mlp.register_forward_pre_hook(lambda ffn, given: seen.append(given[0]))
    (code, of), *_ = found["activity"].items()
    (text, *_) = [json.loads(line)["text"] for line in (out / "work" / "split" / f"held-out-{code}.jsonl").open()]
    ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False).input_ids][: recipe["max_length"]]
    model(torch.tensor([ids]))
    assert of[0] == pytest.approx(float((seen[0] @ gate.detach().float().T).relu().mean()), rel=1e-4)
    assert "Mean activation of the gates" in (tmp_path / "gates.html").read_text()


def test_gates_of_a_run_without_them_are_refused(run, tmp_path) -> None:
    with pytest.raises(ModelError, match="no adapter/ with gated blocks"):
        lingraft.diagnose("gates", run[0], tmp_path / "gates.json")
