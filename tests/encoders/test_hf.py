"""Adapters of transformers, with tiny random models saved locally."""

import shutil

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from amodal.encoders import get
from amodal.errors import DataError, UsageError
from tests.encoders import tiny_models
from tests.encoders.pictures import picture

PICTURES = [picture(seed) for seed in range(3)]
TEXTS = ["a red circle", "blue square on white", "a", "red " * 30]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {name: make(folder / name) for name, make in {**tiny_models.PICTURES, **tiny_models.TEXTS}.items()}


@pytest.mark.parametrize(("model", "dim"), [("clip", 8), ("siglip", 16), ("dinov2", 16), ("vit", 16), ("resnet", 16)])
def test_pictures(saved, model, dim):
    encoder = get(f"hf:{saved[model]}", kind="picture")
    features = encoder.encode(PICTURES)
    assert features.shape == (3, encoder.dim) == (3, dim)
    assert features.dtype == np.float32
    assert len(np.unique(features.round(6), axis=0)) == 3
    batched = get(f"hf:{saved[model]}", kind="picture", device="cpu:0").encode(PICTURES)
    np.testing.assert_allclose(batched, features, atol=1e-5)


@pytest.mark.parametrize(("model", "dim"), [("clip", 8), ("siglip", 16), ("bert", 16)])
def test_texts(saved, model, dim):
    encoder = get(f"hf:{saved[model]}", kind="text")
    features = encoder.encode(TEXTS)
    assert features.shape == (4, encoder.dim) == (4, dim)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    batched = get(f"hf:{saved[model]}", kind="text", device="cpu:0").encode(TEXTS)
    np.testing.assert_allclose(batched, features, atol=1e-5)


@pytest.mark.parametrize("model", ["clip", "siglip"])
def test_both_sides_give_what_the_whole_model_compares(saved, model):
    network = transformers.AutoModel.from_pretrained(saved[model]).eval()
    words, look = (get(f"hf:{saved[model]}", kind=kind) for kind in ("text", "picture"))
    with torch.inference_mode():
        whole = network(
            input_ids=words.prepare(TEXTS[0])[None], pixel_values=torch.stack([look.prepare(one) for one in PICTURES])
        )
    np.testing.assert_allclose(look.encode(PICTURES), whole.image_embeds.numpy(), atol=1e-5)
    np.testing.assert_allclose(words.encode(TEXTS[:1]), whole.text_embeds.numpy(), atol=1e-5)


def test_an_untrained_pooling_layer_is_not_used(saved):
    # the file has no pooling layer, so transformers would make up a random one
    network = transformers.ViTModel.from_pretrained(saved["vit"], add_pooling_layer=False).eval()
    encoder = get(f"hf:{saved['vit']}")
    with torch.inference_mode():
        first_token = network(encoder.prepare(PICTURES[0])[None]).last_hidden_state[0, 0].numpy()
    np.testing.assert_allclose(encoder.encode(PICTURES[:1])[0], first_token, atol=1e-5)


POOLINGS = {
    "mean": lambda last: last.mean(0),
    "cls": lambda last: last[0],
    "max": lambda last: last.amax(0),
    "lasttoken": lambda last: last[-1],
}
ASKED = {
    **{mode: {"pooling_mode": mode} for mode in POOLINGS},
    "mean, as flags": {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True, "include_prompt": True},
    "cls, as flags": {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
    "max, as flags": {"pooling_mode_max_tokens": True},
    "lasttoken, as flags": {"pooling_mode_lasttoken": True},
    "mean, unsaid": None,
}


@pytest.mark.parametrize("asked", ASKED)
def test_sentence_models_pool_as_they_say(tmp_path, asked):
    folder = tiny_models.bert(tmp_path / "bert", ASKED[asked])
    pooling = asked.split(",")[0]
    network = transformers.AutoModel.from_pretrained(folder).eval()
    encoder = get(f"hf:{folder}")
    for device in ("cpu", "cpu:0"):
        found = get(f"hf:{folder}", device=device).encode(TEXTS)
        for text, row in zip(TEXTS, found, strict=True):
            with torch.inference_mode():
                vector = POOLINGS[pooling](network(encoder.prepare(text)[None]).last_hidden_state[0])
            np.testing.assert_allclose(row, (vector / vector.norm()).numpy(), atol=1e-5)


@pytest.mark.parametrize("asked", [{"pooling_mode": "weightedmean"}, {"pooling_mode_weightedmean_tokens": True}])
def test_unknown_pooling_is_refused(tmp_path, asked):
    folder = tiny_models.bert(tmp_path / "bert", asked)
    with pytest.raises(DataError, match="pools by weightedmean"):
        get(f"hf:{folder}").encode(TEXTS)


def test_layers_that_would_be_left_out_are_refused(tmp_path):
    folder = tiny_models.bert(tmp_path / "bert")
    (folder / "modules.json").write_text('[{"type": "sentence_transformers.models.Dense"}]')
    with pytest.raises(DataError, match=r"further layers \(Dense\)"):
        get(f"hf:{folder}").encode(TEXTS)


def test_sentence_models_cut_texts_where_they_say(tmp_path):
    folder = tiny_models.bert(tmp_path / "bert")
    assert len(get(f"hf:{folder}").prepare("red " * 30)) == 12
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 5}')
    assert len(get(f"hf:{folder}").prepare("red " * 30)) == 5


def test_siglip_texts_are_padded_to_full_length(saved):
    assert len(get(f"hf:{saved['siglip']}", kind="text").prepare("a")) == 12
    assert len(get(f"hf:{saved['clip']}", kind="text").prepare("a")) == 3


def test_a_model_with_two_sides_wants_to_know_which(saved):
    with pytest.raises(UsageError, match="picture or text"):
        get(f"hf:{saved['clip']}")
    with pytest.raises(UsageError, match="takes text"):
        get(f"hf:{saved['bert']}", kind="picture")


def test_fingerprint_follows_weights_settings_and_side(saved, tmp_path):
    sides = {get(f"hf:{saved['clip']}", kind=kind).fingerprint for kind in ("picture", "text")}
    assert len(sides) == 2
    copy = shutil.copytree(saved["clip"], tmp_path / "copy")
    assert get(f"hf:{copy}", kind="text").fingerprint in sides
    settings = copy / "preprocessor_config.json"
    settings.write_text(settings.read_text().replace("32", "24", 1))
    assert get(f"hf:{copy}", kind="picture").fingerprint not in sides


def test_the_model_is_not_downloaded_and_the_message_says_how(no_network):
    with pytest.raises(DataError, match="hf download nobody/nothing"):
        get("hf:nobody/nothing")


def test_damaged_folders_are_named(saved, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        get(f"hf:{tmp_path / 'empty'}")
    copy = shutil.copytree(saved["bert"], tmp_path / "cut")
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(DataError, match="cut"):
        get(f"hf:{copy}").encode(TEXTS)
    weights.unlink()
    with pytest.raises(DataError, match="safetensors"):
        get(f"hf:{copy}").encode(TEXTS)


def test_weights_missing_from_the_file_are_not_made_up(saved, tmp_path):
    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(saved["bert"], tmp_path / "part")
    weights = load_file(copy / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match="lacks 1 of its weights"):
        get(f"hf:{copy}").encode(TEXTS)


def test_pickled_weights_are_not_opened(saved, tmp_path):
    copy = shutil.copytree(saved["bert"], tmp_path / "pickled")
    (copy / "model.safetensors").unlink()
    torch.save({}, copy / "pytorch_model.bin")
    with pytest.raises(DataError, match="safetensors"):
        get(f"hf:{copy}").encode(TEXTS)


def test_odd_pictures_are_taken(saved):
    grey = Image.new("L", (7, 90), 3)
    assert np.isfinite(get(f"hf:{saved['dinov2']}").encode([grey])).all()


def test_opening_is_silent_and_leaves_the_settings_of_transformers(saved, capfd):
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    get(f"hf:{saved['vit']}").encode(PICTURES[:1])
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")
