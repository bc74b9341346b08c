import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.ndimage import map_coordinates

from experiments.data.catalogue import ENTRIES
from experiments.data.dataset import Images
from experiments.data.protocol import FULL, Selection, features, halve, select

sizes = st.integers(1, 5).map(lambda half: 2 * half)
batches = st.tuples(st.integers(1, 3), sizes, sizes, st.integers(1, 3)).flatmap(
    lambda shape: arrays.arrays(np.uint8, shape)
)


@settings(deadline=None)
@given(batches)
def test_halving_is_order_one_interpolation(pixels):
    _, height, width, channels = pixels.shape
    rows, columns = np.mgrid[0.5:height:2, 0.5:width:2]  # between the centres, which are integers
    expected = [
        [
            map_coordinates(image[..., c].astype(float), (rows, columns), order=1)
            for c in range(channels)
        ]
        for image in pixels
    ]
    halved = halve(pixels)
    assert halved.dtype == np.float32
    np.testing.assert_allclose(halved, np.moveaxis(expected, 1, -1), atol=1e-4)


@settings(deadline=None)
@given(batches)
def test_features_are_pixels_in_reading_order(pixels):
    x = features(pixels, halved=False, levels=255)
    assert x.dtype == np.float32
    assert x.min() >= 0
    assert x.max() <= 1
    np.testing.assert_allclose(x * 255, pixels.reshape(len(pixels), -1), atol=1e-4)


def test_select_keeps_the_order_and_numbers_the_classes():
    labels = np.array([6, 1, 0, 6, 9, 0], np.uint8)
    pixels = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)
    kept, y = select(Images(pixels, {"label": labels}), Selection(classes=(0, 6)))
    assert kept.ravel().tolist() == [0, 2, 3, 5]
    assert y.tolist() == [1, 0, 1, 0]
    assert y.dtype == np.int32


def test_select_keeps_everything_by_default():
    images = Images(np.zeros((3, 2, 2, 1), np.uint8), {"label": np.array([2, 0, 1])})
    kept, y = select(images, FULL)
    assert kept.shape == (3, 2, 2, 1)
    assert y.tolist() == [2, 0, 1]


@pytest.mark.parametrize("name", [name for name in ENTRIES if name != "digits"])
def test_every_published_dataset_has_a_paper_form(name):
    entry = ENTRIES[name]
    assert entry.paper.halve
    assert entry.paper.label in entry.classes
    classes = entry.paper.classes or (0,)
    assert list(classes) == sorted(classes)  # the numbering in `select` needs that
    height, width, channels = entry.shape
    assert height * width * channels // 4 == (196 if channels == 1 else 768)
