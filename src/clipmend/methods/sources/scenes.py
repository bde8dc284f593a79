"""The source ``scenes``: rendered, captioned pairs that a CPU can learn, without a network."""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from math import cos, pi, sin

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from clipmend.data.pairs import table_of
from clipmend.data.seeds import numpy_stream
from clipmend.data.workers import spread
from clipmend.methods.settings import Count, Fraction
from clipmend.methods.sources.shapes import COLORS, NOUNS

Rng = np.random.Generator
BACKGROUNDS = ("plain", "striped", "checkered", "noisy", "gradient")
SIZES = {"small": 0.55, "big": 0.8}

# Each names the noun; few name the color, the size or the background, like captions on the web.
CAPTIONS = (
    "a photo of a {noun}",
    "a picture of a {noun}",
    "a drawing of the {noun}",
    "the {noun}",
    "a {color} {noun}",
    "a photo of a {color} {noun}",
    "a {size} {noun}",
    "a picture of a {size} {color} {noun}",
    "a {noun} on a {background} background",
    "a {color} {noun} on a {background} background",
    "one {size} {noun} in front of a {background} wall",
    "this is a {noun}",
)


@dataclass(frozen=True)
class Scene:
    """The content of one image, which its caption may name."""

    noun: str
    color: str
    size: str
    background: str


@dataclass(frozen=True)
class Scenes:
    """Renders silhouettes in typical colors on textured backgrounds, and captions them.

    Row i of a split depends on ``seed``, the split's name and i alone. A larger split therefore
    begins with the rows of a smaller one.

    Attributes:
        train: pairs of ``train``.
        trusted: pairs of ``trusted``.
        val: pairs of ``val``.
        test: pairs of ``test``.
        image_size: side in pixels; images are rendered at twice the size, then reduced.
        noise: share of training captions that belong to another image, as on the web.
        typical: share of images whose noun has its typical color.
        seed: seed of the corpus. It is not the seed of a run: all seeds of a grid use the same
            pairs.
        prompts: templates of the zero-shot classifier, each with one ``{}``.
    """

    train: Count = 8000
    trusted: Count = 1000
    val: Count = 2000
    test: Count = 10000
    image_size: Count = 32
    # Without noise, a low similarity of image and caption alone would identify the poison.
    noise: Fraction = 0.05
    # With colors at random, a small model learns colors and no nouns.
    typical: Fraction = 0.75
    seed: int = 0
    prompts: tuple[str, ...] = (
        "a photo of a {}",
        "a picture of a {}",
        "a drawing of the {}",
        "this is a {}",
        "the {}",
    )

    @property
    def classes(self) -> tuple[str, ...]:
        """The nouns."""
        return tuple(NOUNS)

    def split(self, name: str) -> pa.Table:
        """Return a split; only ``train`` has captions that belong to other images."""
        count: int = getattr(self, name)
        parts = spread(lambda rows: [self._row(name, row) for row in rows], count)
        nouns, captions, images = zip(*(row for part in parts for row in part), strict=True)
        if name == "train":
            rng = numpy_stream(self.seed, "scenes/noise")
            moved = rng.choice(count, size=round(self.noise * count), replace=False)
            noisy = np.array(captions, object)
            noisy[moved] = noisy[np.roll(moved, 1)]
            captions = tuple(noisy)
        ids = [f"{name}-{row:06d}" for row in range(count)]
        return table_of({"id": ids, "image": images, "caption": captions, "label": nouns})

    def _row(self, name: str, row: int) -> tuple[str, str, bytes]:
        """Return noun, true caption and image of one row of a split."""
        rng = numpy_stream(self.seed, f"scenes/{name}/{row}")
        noun = _pick(rng, tuple(NOUNS))
        is_typical = rng.random() < self.typical
        color = NOUNS[noun].main if is_typical else _pick(rng, tuple(COLORS))
        scene = Scene(noun, color, _pick(rng, tuple(SIZES)), _pick(rng, BACKGROUNDS))
        caption = _pick(rng, CAPTIONS).format(**vars(scene))
        return scene.noun, caption, render(scene, self.image_size, rng)


def _pick(rng: Rng, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def render(scene: Scene, size: int, rng: Rng) -> bytes:
    """Return the scene as a square PNG of ``size`` pixels."""
    canvas = 2 * size  # reduced at the end, which smooths the edges
    image = Image.fromarray(_background(scene.background, canvas, rng))
    painter = ImageDraw.Draw(image)
    noun = NOUNS[scene.noun]
    shade = rng.uniform(0.85, 1.1)
    tints = {"main": scene.color, "second": noun.second}
    on_canvas = _placement(SIZES[scene.size], canvas, rng)
    for part in noun.parts:
        color = COLORS[tints[part.tint]]
        fill = tuple(min(255, round(shade * channel)) for channel in color)
        painter.polygon([on_canvas(x, y) for x, y in part.points], fill=fill)
    reduced = np.asarray(image.resize((size, size), Image.Resampling.BOX))
    grain = rng.normal(0.0, 5.0, reduced.shape)
    # Grain makes every image unique: no two rows of the corpus share their bytes.
    pixels = np.clip(np.rint(reduced + grain), 0, 255).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _placement(
    share: float, canvas: int, rng: Rng
) -> Callable[[float, float], tuple[float, float]]:
    """Return the map from the unit square to the canvas: scaled, tilted, mirrored, moved."""
    side = canvas * share * rng.uniform(0.9, 1.1)
    tilt = rng.uniform(-pi / 9, pi / 9)
    mirror = 1 if rng.random() < 0.5 else -1
    free = max(0.0, canvas - side) / 2
    center = canvas / 2 + rng.uniform(-free, free, size=2)

    def on_canvas(x: float, y: float) -> tuple[float, float]:
        dx, dy = mirror * (x - 0.5) * side, (y - 0.5) * side
        return (
            float(center[0] + dx * cos(tilt) - dy * sin(tilt)),
            float(center[1] + dx * sin(tilt) + dy * cos(tilt)),
        )

    return on_canvas


def _background(kind: str, canvas: int, rng: Rng) -> NDArray[np.uint8]:
    light, dark = (rng.integers(60, 230, size=3) for _ in range(2))
    rows, columns = np.mgrid[0:canvas, 0:canvas]
    step = int(rng.integers(6, 12))
    mask = {
        "plain": np.zeros((canvas, canvas)),
        "striped": ((rows + columns) // step) % 2,
        "checkered": (rows // step + columns // step) % 2,
        "noisy": rng.random((canvas, canvas)),
        "gradient": rows / canvas,
    }[kind]
    blend = light + (dark - light) * mask[..., None]
    pixels: NDArray[np.uint8] = np.rint(blend).astype(np.uint8)
    return pixels
