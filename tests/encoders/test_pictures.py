"""Decoding: every odd picture comes out as upright RGB, every bad one as a sentence that names the file."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from amodal.encoders import pictures
from amodal.encoders.pictures import open_picture
from amodal.errors import DataError
from tests.encoders.pictures import picture


def saved(image, form, **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def test_path_bytes_and_image_are_one(tmp_path):
    image = picture(0)
    file = tmp_path / "a.png"
    image.save(file)
    arrays = [np.asarray(open_picture(one)) for one in (image, file, str(file), file.read_bytes())]
    assert all(np.array_equal(arrays[0], other) for other in arrays)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "LA", "RGBA", "YCbCr", "HSV", "LAB"])
def test_every_mode_becomes_rgb(mode):
    grey = Image.new("L", (8, 8), 255)
    image = Image.merge("LAB", (grey, Image.new("L", (8, 8), 128), Image.new("L", (8, 8), 128)))
    image = image if mode == "LAB" else grey.convert("RGB").convert(mode) if mode != "LA" else grey.convert("LA")
    upright = open_picture(image)
    assert upright.mode == "RGB"
    assert upright.size == (8, 8)
    if mode != "LAB":
        assert np.asarray(upright).min() >= 250


def test_transparency_is_laid_on_white():
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert (np.asarray(open_picture(clear)) == 255).all()
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert abs(int(np.asarray(open_picture(half))[0, 0, 0]) - 127) <= 1


def test_palette_with_a_transparent_colour_is_laid_on_white():
    image = Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 0, 200, 0, 0])
    image.putpixel((1, 1), 1)
    decoded = np.asarray(open_picture(saved(image, "PNG", transparency=0)))
    assert decoded[0, 0].tolist() == [255, 255, 255]
    assert decoded[1, 1].tolist() == [200, 0, 0]


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_cut_off(form):
    levels = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    decoded = np.asarray(open_picture(saved(Image.fromarray(levels), form)))[..., 0]
    assert np.array_equal(decoded, (levels // 257).astype(np.uint8))


def test_exif_rotation_is_applied():
    image = Image.new("RGB", (20, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    assert open_picture(saved(image, "JPEG", exif=exif)).size == (10, 20)


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    animation = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.asarray(open_picture(animation))[0, 0].tolist() == [255, 0, 0]


def test_large_jpegs_are_read_at_reduced_size_but_not_below_the_bound():
    data = saved(picture(1, (1600, 1200)), "JPEG")
    reduced = open_picture(data, at_least=300)
    assert min(reduced.size) >= 300
    assert reduced.size < (1600, 1200)
    assert open_picture(data).size == (1600, 1200)


BAD = {
    "truncated.png": lambda: saved(picture(0, (300, 300)), "PNG")[:400],
    "truncated.jpg": lambda: saved(picture(0, (300, 300)), "JPEG")[:-200],
    "words.jpg": lambda: b"these are words, and no picture",
    "empty.png": lambda: b"",
    "header.gif": lambda: b"GIF89a" + b"\x00" * 7,
    "drawing.svg": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named(tmp_path, name):
    file = tmp_path / name
    file.write_bytes(BAD[name]())
    with pytest.raises(DataError, match=name) as caught:
        open_picture(file)
    assert "--skip-bad" in str(caught.value)
    with pytest.raises(DataError, match="a picture"):
        open_picture(file.read_bytes())


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        open_picture(tmp_path / "no.png")
    with pytest.raises(DataError, match="cannot be read"):
        open_picture(tmp_path)


def test_too_many_pixels_are_refused_before_decoding(monkeypatch):
    monkeypatch.setattr(pictures, "MAX_PIXELS", 1999)
    with pytest.raises(DataError, match="50 x 40 pixels"):
        open_picture(saved(picture(0), "PNG"))


@pytest.mark.parametrize("action", ["error", "ignore"])
def test_decompression_bombs_are_refused(monkeypatch, action):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        with pytest.raises(DataError, match="too large"):
            open_picture(saved(picture(0), "PNG"))


def test_something_else_is_refused_with_a_sentence():
    with pytest.raises(DataError, match="a picture cannot be read"):
        open_picture(3)
