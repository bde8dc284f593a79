"""The sheet shows the images in their order, with the shared word in color."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from clipmend.data.splits import Pairs
from clipmend.tools.standalone.sheet import draw, ending

ACCENT = (0xD5, 0x5E, 0x00)
RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture
def pairs() -> Pairs:
    images = torch.zeros(7, 3, 8, 8, dtype=torch.uint8)
    images[:, 0] = 255
    images[6, 0], images[6, 2] = 0, 255
    captions = ("a Banana, ripe", *["a photo of a tree"] * 6)
    ids = tuple(f"photos/{number:07}.jpg" for number in range(7))
    return Pairs(ids, images, captions, torch.zeros(7).long(), torch.zeros(7).bool())


def where(pairs: Pairs, color: tuple[int, int, int], word: str = "banana") -> list[np.ndarray]:
    file = BytesIO()
    draw(pairs, title="'banana' is in all.", note="7 of 7", word=word).savefig(file, format="png")
    pixels = np.asarray(Image.open(file).convert("RGB"))
    return list(np.nonzero((pixels == color).all(axis=2)))


def test_the_seventh_image_begins_the_second_row(pairs: Pairs) -> None:
    red, blue = where(pairs, RED), where(pairs, BLUE)
    assert blue[0].min() > red[0].max()
    assert abs(blue[1].min() - red[1].min()) <= 1
    assert len(red[0]) == pytest.approx(6 * len(blue[0]), rel=0.02)


def test_the_shared_word_alone_is_in_color(pairs: Pairs) -> None:
    assert len(where(pairs, ACCENT)[0]) > 20
    assert len(where(pairs, ACCENT, word="")[0]) == 0


def test_each_tile_has_its_rank_and_the_end_of_its_id(pairs: Pairs) -> None:
    long = replace(pairs, ids=("a/long/folder/of/photos/0001.jpg", "second", *"34567"))
    figure = draw(long, title="", note="", word="")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[:2] == [f"1  {ending(long.ids[0])}", "2  second"]
    assert ending(long.ids[0]).startswith("…")
    assert ending(long.ids[0]).endswith("photos/0001.jpg")


@pytest.mark.parametrize("text", ["", "x" * 300, "no $price_here, {braces} " * 9])
def test_any_text_can_be_a_caption_and_a_title(pairs: Pairs, text: str) -> None:
    any_text = replace(pairs, ids=(text,) * 7, captions=(text,) * 7)
    draw(any_text, title=text, note=text, word="banana")
