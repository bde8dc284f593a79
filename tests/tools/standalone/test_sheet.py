"""The sheet shows the images in their order, and no text runs out of its place."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from clipmend.tools.standalone.sheet import Shown, _font, cut_lines, draw_sheet

ACCENT = (0xD5, 0x5E, 0x00)
RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture
def shown() -> Shown:
    images = torch.zeros(9, 3, 8, 8, dtype=torch.uint8)
    images[:, 0] = 255
    images[8, 0], images[8, 2] = 0, 255
    captions = ["a Banana, ripe", *["a photo of a tree"] * 8]
    return Shown("'banana' is in all.", "9 of 9", "banana", list("abcdefghi"), captions, images)


def count(sheet: object, color: tuple[int, int, int]) -> int:
    return int((np.asarray(sheet) == color).all(axis=2).sum())


def test_the_ninth_image_begins_the_second_row(shown: Shown) -> None:
    sheet = draw_sheet(shown)
    assert count(sheet, RED) == 8 * 160 * 160
    assert count(sheet, BLUE) == 160 * 160
    rows, columns = np.nonzero((np.asarray(sheet) == BLUE).all(axis=2))
    reds = np.nonzero((np.asarray(sheet) == RED).all(axis=2))
    assert rows.min() > reds[0].max()
    assert columns.min() == reds[1].min()


def test_the_shared_word_alone_is_in_color(shown: Shown) -> None:
    assert count(draw_sheet(shown), ACCENT) > 50
    assert count(draw_sheet(replace(shown, word="")), ACCENT) == 0


@pytest.mark.parametrize(
    "text", ["", "word", "some words " * 40, "x" * 300, "no $price, 日本 " * 9]
)
def test_text_is_cut_to_lines_that_fit(text: str) -> None:
    font = _font(13)
    lines = cut_lines(text, 160, font, most=2)
    assert len(lines) <= 2
    assert all(font.getlength(line) <= 160 for line in lines)
    whole = " ".join(lines) == " ".join(text.split())
    assert whole or lines[-1].endswith("…")
