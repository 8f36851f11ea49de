"""Digits drawn from the fonts that ship with matplotlib: an embedded stand-in where MNIST is unavailable.

They are called `synthetic-digits` everywhere and never MNIST: a classifier trained on them reads print, not
handwriting, and accuracies on the two are not comparable. Size and place follow MNIST: a glyph fills a box of 20x20
pixels and its centre of mass lies in the centre of 28x28. Each image then has its own rotation, shear, scale, shift and
elastic distortion, all moderate, so that a small MLP learns the classes about as fast as those of MNIST.

Source: LeCun et al. 1998, section III.A (size and place); Simard et al. 2003, section 2 (elastic distortion).
"""

import pathlib
import zlib
from collections.abc import Sequence

import matplotlib
import numpy as np
import scipy.ndimage
from jaxtyping import Float32, UInt8
from matplotlib.backends import backend_agg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from sublim_jax.data import arrays

NAME = "synthetic-digits"
SOURCE = "generated from matplotlib's fonts"
FONTS = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSans-Oblique.ttf",
    "DejaVuSans-BoldOblique.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSansMono-Bold.ttf",
    "DejaVuSansMono-Oblique.ttf",
    "DejaVuSansMono-BoldOblique.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-Bold.ttf",
    "DejaVuSerif-Italic.ttf",
    "DejaVuSerif-BoldItalic.ttf",
    "STIXGeneral.ttf",
    "STIXGeneralBol.ttf",
    "STIXGeneralItalic.ttf",
    "STIXGeneralBolIta.ttf",
    "cmb10.ttf",
    "cmr10.ttf",
    "cmss10.ttf",
    "cmti10.ttf",
    "cmtt10.ttf",
)

SIZE = 28  # pixels
BOX = 20  # pixels that the longer side of a glyph fills
OVERSAMPLING = 8  # glyphs are drawn this much finer and looked up at the nearest point, 1/16 pixel away at most
MARGIN = 6  # pixels of background around a drawn image, so that no distortion looks beyond it
BLUR = 0.6  # pixels, standard deviation: strokes fade over about a pixel, as they do in MNIST

ROTATION = 0.15  # radians, standard deviation
SHEAR = 0.15  # standard deviation
LOG_SCALE = 0.08  # largest, up or down, of each axis
SHIFT = 0.5  # pixels, largest along each axis
ELASTIC = 1.0  # pixels, standard deviation of the displacement at a control point
CONTROL = 5  # elastic control points along each axis
CHUNK = 2_000  # images distorted together, which bounds the memory


def generate(num_train: int = 60_000, num_test: int = 10_000, *, seed: int = 0) -> arrays.ImageArrays:
    """Training and test images from two streams of `seed`: equal arguments give equal arrays, and no image is in both.

    Labels are balanced, to within one image per class, and shuffled. 70,000 images take three seconds on one core.
    """
    glyphs = draw_glyphs(FONTS)
    streams = np.random.SeedSequence(seed).spawn(2)
    (train_images, train_labels), (test_images, test_labels) = (
        _draw_split(glyphs, count, np.random.default_rng(stream))
        for stream, count in zip(streams, (num_train, num_test), strict=True)
    )
    return arrays.ImageArrays(train_images, train_labels, test_images, test_labels)


def recipe() -> str:
    """Tells apart images drawn differently: by another version of this file, or of matplotlib and its fonts."""
    return f"{zlib.crc32(pathlib.Path(__file__).read_bytes()):08x}-matplotlib-{matplotlib.__version__}"


def draw_glyphs(fonts: Sequence[str]) -> UInt8[np.ndarray, "font 10 fine fine"]:
    """The ten digits of each font, sized and placed as in MNIST, `OVERSAMPLING` times finer and with a margin."""
    folder = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    side = (SIZE + 2 * MARGIN) * OVERSAMPLING
    glyphs = np.empty((len(fonts), 10, side, side), np.uint8)
    for font_index, font in enumerate(fonts):
        properties = FontProperties(fname=str(folder / font))
        for digit in range(10):
            drawn = _rasterize(TextPath((0, 0), str(digit), size=100, prop=properties), side)
            blurred = scipy.ndimage.gaussian_filter(drawn, BLUR * OVERSAMPLING)
            offset = (side - 1) / 2 - np.array(scipy.ndimage.center_of_mass(blurred))
            centred = scipy.ndimage.shift(blurred, offset, order=1)
            glyphs[font_index, digit] = np.round(255 * centred / centred.max())
    return glyphs


def _rasterize(outline: TextPath, side: int) -> Float32[np.ndarray, "side side"]:
    """A filled outline whose longer side is `BOX` pixels, in the middle of a square of `side` fine ones; ink is 1."""
    extent = outline.get_extents()
    fit = (
        Affine2D()
        .translate(-(extent.x0 + extent.x1) / 2, -(extent.y0 + extent.y1) / 2)
        .scale(BOX * OVERSAMPLING / max(extent.width, extent.height))
        .translate(side / 2, side / 2)
    )
    figure = Figure(figsize=(1, 1), dpi=side, facecolor="white")
    canvas = backend_agg.FigureCanvasAgg(figure)
    # In display units, which are fine pixels. Snapping would move outlines to whole ones.
    figure.add_artist(PathPatch(outline, transform=fit, facecolor="black", linewidth=0, snap=False))
    canvas.draw()
    return 1 - np.asarray(canvas.buffer_rgba())[..., 0].astype(np.float32) / 255


def _draw_split(
    glyphs: UInt8[np.ndarray, "font 10 fine fine"], count: int, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "count 28 28"], UInt8[np.ndarray, " count"]]:
    """`count` distorted images with balanced, shuffled labels."""
    labels = rng.permutation(np.arange(count) % 10).astype(np.uint8)
    images = np.empty((count, SIZE, SIZE), np.uint8)
    for start in range(0, count, CHUNK):
        chunk = slice(start, min(start + CHUNK, count))
        images[chunk] = _distort(glyphs, labels[chunk], rng)
    return images, labels


def _distort(
    glyphs: UInt8[np.ndarray, "font 10 fine fine"], labels: UInt8[np.ndarray, " batch"], rng: np.random.Generator
) -> UInt8[np.ndarray, "batch 28 28"]:
    """One image per label: a random font, seen through a random smooth map of the plane."""
    batch = len(labels)
    fonts = rng.integers(len(glyphs), size=batch)
    angle, shear = rng.normal(scale=((ROTATION,), (SHEAR,)), size=(2, batch))
    scale_y, scale_x = np.exp(rng.uniform(-LOG_SCALE, LOG_SCALE, size=(2, batch)))
    shift = rng.uniform(-SHIFT, SHIFT, size=(batch, 2)).astype(np.float32)
    controls = rng.normal(scale=ELASTIC, size=(batch, 2, CONTROL, CONTROL)).astype(np.float32)

    # Where pixel (y, x) of the image lies in the glyph, both measured from the centre: linear @ (y, x) + displacement.
    cos, sin = np.cos(angle), np.sin(angle)
    linear = np.stack([cos / scale_y, -sin / scale_y, (sin + shear * cos) / scale_x, (cos - shear * sin) / scale_x])
    linear = linear.T.reshape(batch, 2, 2).astype(np.float32)
    centred = np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2
    smooth = _interpolation()
    place = np.einsum("ip,bcpq,jq->bcij", smooth, controls, smooth, optimize=True)
    place += (linear[:, :, 0, None] * centred)[:, :, :, None] + (linear[:, :, 1, None] * centred)[:, :, None, :]
    place += shift[:, :, None, None]

    side = glyphs.shape[-1]
    fine = (place * OVERSAMPLING + side / 2).astype(
        np.int32
    )  # floor of a positive number: the fine pixel at that place
    np.clip(fine, 0, side - 1, out=fine)
    glyph = (fonts * 10 + labels).astype(np.int32)[:, None, None]
    return glyphs.reshape(-1).take((glyph * side + fine[:, 0]) * side + fine[:, 1])


def _interpolation() -> Float32[np.ndarray, "28 control"]:
    """Rows that weigh the control points along one axis: Gaussian bumps, scaled to keep the standard deviation."""
    pixels, points = np.arange(SIZE), np.linspace(0, SIZE - 1, CONTROL)
    bumps = np.exp(-0.5 * ((pixels[:, None] - points) / (points[1] - points[0])) ** 2)
    return (bumps / np.linalg.norm(bumps, axis=1, keepdims=True)).astype(np.float32)
