"""Images of every depth keep their contrast: a value means the same as in 8 bits."""

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.image_folders import write_folders
from helpers.vision_commands import configured
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lskd.io.errors import InputError
from lskd_vision.data import load_data
from lskd_vision.image_files import FORMATS, MODES, convert
from lskd_vision.loader import Loader

EIGHT = np.arange(256, dtype=np.uint8).reshape(16, 16)


def file_of(pixels: np.ndarray, kind: str) -> Image.Image:
    """What Pillow makes of a file with these values."""
    stream = io.BytesIO()
    if kind == "pgm":
        stream.write(b"P5\n16 16\n65535\n" + pixels.astype(">u2").tobytes())
    elif kind == "big-endian tiff":
        header = b"MM\0\x2a\0\0\0\x08\0\x09"
        fields = [(256, 3, 16 << 16), (257, 3, 16 << 16), (258, 3, 16 << 16), (259, 3, 1 << 16), (262, 3, 1 << 16)]
        fields += [(273, 4, 122), (277, 3, 1 << 16), (278, 3, 16 << 16), (279, 4, 512)]
        packed = b"".join(
            tag.to_bytes(2, "big") + kind.to_bytes(2, "big") + (1).to_bytes(4, "big") + value.to_bytes(4, "big")
            for tag, kind, value in fields
        )
        stream.write(header + packed + bytes(4) + pixels.astype(">u2").tobytes())
    else:
        Image.fromarray(pixels).save(stream, kind)
    return Image.open(stream)


@pytest.mark.parametrize(
    ("kind", "scaled", "mode"),
    [
        ("png", EIGHT.astype(np.uint16) * 257, "I;16"),
        ("tiff", EIGHT.astype(np.uint16) * 257, "I;16"),
        ("big-endian tiff", EIGHT.astype(np.uint16) * 257, "I;16B"),
        ("pgm", EIGHT.astype(np.uint16) * 257, "I"),
        ("tiff", EIGHT.astype(np.int32) * 257, "I"),
        ("tiff", EIGHT / np.float32(255), "F"),
    ],
)
@pytest.mark.parametrize("wanted", ["L", "RGB", "LA"])
def test_a_deep_grey_image_is_the_image_of_8_bits(kind, scaled, mode, wanted):
    image = file_of(scaled, kind)
    assert image.mode == mode
    expected = Image.fromarray(EIGHT).convert(wanted)
    assert np.array_equal(np.asarray(convert(image, wanted)), np.asarray(expected))


@given(st.integers(0, 65535), st.integers(1, 65535))
@settings(deadline=None, max_examples=50)
def test_a_value_is_its_part_of_white_rounded(value, white):
    image = Image.fromarray(np.array([[value]], dtype=np.uint16))
    if value > white:
        with pytest.raises(ValueError, match=f"values from {value:g} to {value:g} are not within 0 and {white:g}"):
            convert(image, "L", white)
    else:
        assert abs(convert(image, "L", white).getpixel((0, 0)) - 255 * value / white) <= 0.5


@pytest.mark.parametrize("values", [[-0.1, 0.5], [0.0, 1.5], [0.0, float("nan")], [0.0, float("inf")]])
def test_values_that_are_no_part_of_white_are_refused(values):
    with pytest.raises(ValueError, match="are not within 0 and 1, see --max-pixel-value"):
        convert(Image.fromarray(np.array([values], dtype=np.float32)), "L")


def test_signed_images_below_0_are_refused():
    with pytest.raises(ValueError, match="values from -1000 to 3000 are not within 0 and 65535"):
        convert(Image.fromarray(np.array([[-1000, 3000]], dtype=np.int32)), "RGB")


@pytest.mark.parametrize("source", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_images_of_8_bits_are_converted_as_pillow_does(source, mode):
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(noise).convert("RGB").convert(source)
    assert np.array_equal(np.asarray(convert(image, mode)), np.asarray(image.convert(mode)))


@pytest.mark.parametrize("transparency", [3, bytes([0, 128, 255])])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_transparency_that_is_not_wanted_is_dropped_without_a_warning(transparency, mode):
    image = Image.fromarray(EIGHT).convert("RGB").quantize(4)
    colours = np.asarray(image.convert(mode))
    image.info["transparency"] = transparency
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = convert(image, mode)
    assert np.array_equal(np.asarray(found), colours)


def test_transparency_that_is_wanted_stays():
    image = Image.new("P", (1, 1), 0)
    image.putpalette([10, 20, 30])
    image.info["transparency"] = bytes([40])
    assert convert(image, "RGBA").getpixel((0, 0)) == (10, 20, 30, 40)


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_that_may_be_asked_for_has_8_bits_a_channel(mode):
    pixels = np.asarray(convert(Image.new("RGB", (2, 2), (250, 0, 9)), mode))
    assert pixels.dtype == np.uint8
    assert (2, 2, *[len(Image.new(mode, (1, 1)).getbands())][: pixels.ndim - 2]) == pixels.shape


def test_a_program_is_not_read_as_an_image_whatever_its_name(tmp_path):
    (tmp_path / "image.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\nshowpage\n")
    with Image.open(tmp_path / "image.png") as image:
        assert image.format == "EPS"
    with pytest.raises(Image.UnidentifiedImageError):
        Image.open(tmp_path / "image.png", formats=FORMATS)


# In a data set.

CONFIG = {"input_size": (1, 28, 28), "mean": (0.25,), "std": (0.5,), "interpolation": "bilinear", "crop_pct": 1.0}
CONFIG["crop_mode"] = "center"


def inputs(root: Path, *words) -> torch.Tensor:
    """The validation images as a model gets them."""
    made = configured(root, "--batch-size 4 --in-chans 1 --img-size 28", *words)
    loader = Loader.for_evaluation(load_data(made.dataset).val, CONFIG, made)
    return torch.cat([images.clone() for images, _ in loader.epoch(0)])


@pytest.fixture
def deep(tmp_path):
    """Makes a data set of grey images with white at ``white``; gives it, and what a model gets of it in 8 bits."""
    root = write_folders(tmp_path / "clothes", train=4, validation=4, channels="L")
    expected = inputs(root)

    def deep(white: float, dtype):
        for path in root.rglob("*.*g"):
            with Image.open(path) as image:
                pixels = np.asarray(image) * (white / 255)
            path.unlink()
            Image.fromarray((np.rint(pixels) if white > 1 else pixels).astype(dtype)).save(path.with_suffix(".tif"))
        return root, expected

    return deep


@pytest.mark.parametrize(("white", "dtype"), [(65535, np.uint16), (65535, np.int32), (1, np.float32)])
def test_images_that_use_their_range_need_no_option(white, dtype, deep):
    root, expected = deep(white, dtype)
    assert torch.equal(inputs(root), expected)


def test_images_of_12_bits_in_files_of_16_are_not_taken_for_black_ones(deep):
    root, expected = deep(4095, np.uint16)
    complaint = r"--max-pixel-value: None \(must be given: 12 of 12 images .* none a value above 40\d\d; "
    with pytest.raises(InputError, match=complaint + r"white is 65535 by default\)"):
        inputs(root)
    assert torch.equal(inputs(root, "--max-pixel-value 4095"), expected)
    assert inputs(root, "--max-pixel-value 65535").max() < -0.35  # who says that they are dark is believed


def test_images_of_12_bits_are_found_behind_one_of_8(deep):
    root, expected = deep(4095, np.uint16)
    first = min((root / "validation").rglob("*.tif"))
    Image.new("L", (28, 28), 200).save(first)
    with pytest.raises(InputError, match=r"--max-pixel-value: None \(must be given: 11 of 12 images that "):
        inputs(root)
    assert torch.equal(inputs(root, "--max-pixel-value 4095")[1:], expected[1:])


def test_float_images_up_to_255_are_refused_until_white_is_given(deep):
    root, expected = deep(255, np.float32)
    with pytest.raises(InputError, match=r"000.tif \(cannot be read as L: values from 0 to \d+ are not within 0 and 1"):
        inputs(root)
    assert torch.equal(inputs(root, "--max-pixel-value 255"), expected)
