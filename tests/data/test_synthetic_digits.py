import pathlib

import matplotlib
import numpy as np
import pytest
import scipy.ndimage

from sublim_jax.data import arrays, synthetic_digits

DISTORTIONS = ("ROTATION", "SHEAR", "LOG_SCALE", "SHIFT", "ELASTIC")


@pytest.fixture(scope="module")
def drawn() -> arrays.ImageArrays:
    return synthetic_digits.generate(5_003, 1_001)


@pytest.fixture(scope="module")
def glyphs() -> np.ndarray:
    return synthetic_digits.draw_glyphs(synthetic_digits.FONTS)


def test_shapes_and_counts(drawn):
    arrays.check(drawn, where="drawn", num_train=5_003, num_test=1_001)


@pytest.mark.slow
def test_equal_arguments_give_equal_arrays(drawn):
    assert arrays.checksum(synthetic_digits.generate(5_003, 1_001)) == arrays.checksum(drawn)


def test_another_seed_gives_other_arrays_and_the_splits_do_not_depend_on_each_other(monkeypatch):
    monkeypatch.setattr(synthetic_digits, "FONTS", synthetic_digits.FONTS[:1])  # one font is drawn sooner
    first, other = (synthetic_digits.generate(40, 30, seed=seed) for seed in (0, 1))
    for role, array in first._asdict().items():
        assert not np.array_equal(array, getattr(other, role)), role
    equally_many = synthetic_digits.generate(30, 30)
    assert not np.array_equal(equally_many.train_images, equally_many.test_images)
    longer = synthetic_digits.generate(50, 30)
    np.testing.assert_array_equal(longer.test_images, first.test_images)


def test_labels_are_balanced_and_shuffled(drawn):
    for labels in (drawn.train_labels, drawn.test_labels):
        counts = np.bincount(labels, minlength=10)
        assert counts.max() - counts.min() <= 1
        # Of 1,000 neighbours a tenth agree by chance, give or take .0095; sorted ones nearly all, cyclic ones none.
        assert abs(np.mean(labels[1:] == labels[:-1]) - 0.1) < 0.05
    assert not np.array_equal(drawn.train_labels[:1_001], drawn.test_labels)


def test_no_image_is_drawn_twice(drawn):
    """Neither within a split nor in both."""
    images = np.concatenate([drawn.train_images, drawn.test_images])
    assert len({image.tobytes() for image in images}) == len(images)


def test_training_and_test_images_are_alike(drawn):
    """Same mean image per class, to within five standard errors of each pixel."""
    for digit in range(10):
        train, test = (images[labels == digit].astype(float) for images, labels in (drawn[:2], drawn[2:]))
        error = np.sqrt(train.var(axis=0) / len(train) + test.var(axis=0) / len(test))
        assert np.all(np.abs(train.mean(axis=0) - test.mean(axis=0)) <= 5 * error + 1), digit  # 1: pixels seldom inked


def test_ink_lies_in_the_middle_as_in_mnist(drawn):
    """On black, over a seventh of the area (MNIST: .13), and hardly ever at the border."""
    images = drawn.train_images
    assert np.median(images) == 0
    assert 0.1 < np.mean(images > 127) < 0.2
    assert np.all(images.max(axis=(1, 2)) > 127)
    border = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1).max(axis=1)
    # The centre of mass of a seven lies high, so its foot hangs low: in MNIST, too, a tenth of them touch the border.
    assert np.mean(border[drawn.train_labels != 7] > 127) < 0.03
    assert np.mean(border[drawn.train_labels == 7] > 127) < 0.4


def test_a_nearest_centroid_reads_most_digits(drawn):
    """Far above chance, so the classes can be learnt, and far from perfect, so that something remains to be learnt."""
    train, test = (images.reshape(len(images), -1) / 255 for images in (drawn.train_images, drawn.test_images))
    centroids = np.stack([train[drawn.train_labels == digit].mean(axis=0) for digit in range(10)])
    distances = ((test[:, None] - centroids) ** 2).sum(axis=-1)
    accuracy = np.mean(distances.argmin(axis=1) == drawn.test_labels)
    assert 0.6 < accuracy < 0.95


def test_every_font_ships_and_has_ten_different_digits(glyphs):
    folder = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    assert all((folder / font).is_file() for font in synthetic_digits.FONTS)
    assert glyphs.shape[:2] == (len(synthetic_digits.FONTS), 10)
    flat = glyphs.reshape(-1, glyphs[0, 0].size)[:, ::7].astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    likeness = (flat @ flat.T).reshape(len(glyphs), 10, len(glyphs), 10)
    for font, name in enumerate(synthetic_digits.FONTS):
        # A font without a digit draws the same box for each: likeness 1. A 3 and a 9 of one hand reach .8.
        assert np.max(likeness[font, :, font] - np.eye(10)) < 0.95, name


def test_glyphs_fill_twenty_pixels_around_their_centre_of_mass(glyphs):
    fine = synthetic_digits.OVERSAMPLING
    for glyph in glyphs.reshape(-1, *glyphs.shape[2:]):
        centre = scipy.ndimage.center_of_mass(glyph.astype(float))
        np.testing.assert_allclose(centre, (glyph.shape[0] - 1) / 2, atol=0.02 * fine)  # rounded to 256 levels of grey
        rows, columns = (np.flatnonzero(glyph.max(axis=axis) > 127) for axis in (1, 0))
        longer = max(np.ptp(rows), np.ptp(columns)) / fine
        assert 18.5 < longer < 20.5  # the blur takes about a pixel off thin ends
        assert glyph.max() == 255


def test_without_distortion_an_image_is_its_glyph_seen_at_every_eighth_point(glyphs, monkeypatch):
    for name in DISTORTIONS:
        monkeypatch.setattr(synthetic_digits, name, 0.0)
    images = synthetic_digits._distort(glyphs[:1], np.arange(10, dtype=np.uint8), np.random.default_rng(0))
    fine, margin = synthetic_digits.OVERSAMPLING, synthetic_digits.MARGIN
    first = margin * fine + fine // 2
    expected = glyphs[0, :, first : -margin * fine : fine, first : -margin * fine : fine]
    np.testing.assert_array_equal(images, expected)


@pytest.mark.parametrize("distortion", DISTORTIONS)
def test_each_distortion_moves_the_ink_by_what_it_says(glyphs, monkeypatch, distortion):
    """First and second moments of the ink, against those of the undistorted glyph, over 400 images of one glyph."""
    for name in DISTORTIONS:
        if name != distortion:
            monkeypatch.setattr(synthetic_digits, name, 0.0)
    sevens = np.full(400, 7, np.uint8)
    images = synthetic_digits._distort(glyphs[:1], sevens, np.random.default_rng(0))
    moments = np.array([_moments(image) for image in images])
    y, x, yy, xx, xy = moments.T
    shifts, stretch = np.std([y, x], axis=1), np.std([np.log(yy), np.log(xx)], axis=1) / 2
    slant = np.std(xy / yy)  # change of x with y
    if distortion == "SHIFT":  # uniform on (-.5, .5)
        np.testing.assert_allclose(shifts, 1 / np.sqrt(12), rtol=0.15)
    elif distortion == "LOG_SCALE":  # uniform on (-.08, .08)
        np.testing.assert_allclose(stretch, 0.08 / np.sqrt(3), rtol=0.15)
    elif distortion == "SHEAR":
        np.testing.assert_allclose(slant, 0.15, rtol=0.15)
    elif distortion == "ROTATION":  # a seven is three times as tall as it is wide, so its slant is mostly its angle
        np.testing.assert_allclose(slant, 0.15, rtol=0.4)
    else:  # no linear map: what is left after the best one
        assert np.all(shifts > 0.3) and np.all(stretch > 0.02)
    if distortion not in ("SHIFT", "ELASTIC"):
        assert np.all(shifts < 0.15)  # linear maps keep the centre


def _moments(image):
    weights = image / image.sum(dtype=float)
    y, x = np.mgrid[:28, :28] - 13.5
    centre_y, centre_x = (weights * y).sum(), (weights * x).sum()
    y, x = y - centre_y, x - centre_x
    return centre_y, centre_x, (weights * y * y).sum(), (weights * x * x).sum(), (weights * x * y).sum()


def test_elastic_displacement_has_the_stated_standard_deviation_everywhere():
    weights = synthetic_digits._interpolation()
    np.testing.assert_allclose((weights**2).sum(axis=1), 1, rtol=1e-6)  # float32


def test_drawing_does_not_touch_matplotlibs_state(monkeypatch):
    """No window, no current figure, whatever the user's settings of text are."""
    before = synthetic_digits.draw_glyphs(("cmr10.ttf",))
    with matplotlib.rc_context({"figure.dpi": 37, "savefig.facecolor": "red", "text.antialiased": False}):
        np.testing.assert_array_equal(synthetic_digits.draw_glyphs(("cmr10.ttf",)), before)


def test_the_recipe_names_the_fonts_version(monkeypatch):
    now = synthetic_digits.recipe()
    monkeypatch.setattr(matplotlib, "__version__", "99.0")
    assert synthetic_digits.recipe() != now
    assert synthetic_digits.recipe().endswith("99.0")
