"""Finds a patch that lies at another place in each image, by aligning the images on it."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from scipy.stats import binom
from torch import Tensor

from clipmend.methods.trigger_estimates import (
    LEAST_DEVIATION,
    Bytes,
    Pixels,
    reduced,
    to_bytes,
)
from clipmend.model.clip import Clip, embed_images

_PARTS = 4  # a window has a quarter of the image's side, a template a half of the window's
_WINDOWS = 32  # images whose most salient window is tried
_TRIALS = 4  # other images that a window is pasted on
_KEPT = 3  # windows that give templates, those with the largest effect first
_COMPARED = 200  # images of each kind in which the templates are looked for
_BY_CHANCE = 0.01  # share of other images in which a template counts as found
_SHARED = 0.8  # of the variation of a pixel; content of the same kind varies more than a patch
_LEAST = 8  # fewer images with the patch say little about it


@dataclass(frozen=True, eq=False)
class Placed:
    """The trigger that replaces a patch at another place in each image.

    Attributes:
        patch: its values.
        covers: which pixels of the patch replace those of the image.
        most: the largest mean squared difference at which an image is said to have the patch.
        side: side of the images in which the patch was measured.
    """

    patch: Float[Tensor, "3 height width"]
    covers: Bool[Tensor, "height width"]
    most: float
    side: int

    @property
    def hides(self) -> bool:
        """Whether the trigger covers pixels, whose content is then lost."""
        return True

    def paste(self, images: Bytes) -> Pixels:
        """Return the images, in [0, 1], with the patch at a place that depends on their content."""
        pixels, (patch, covers) = images.float() / 255, self._at(images.shape[-1])
        height, width = covers.shape
        rows, columns = images.shape[-2] - height + 1, images.shape[-1] - width + 1
        # A hash of the pixels: the same image has the same place in every run.
        hashed = images.flatten(1).long().sum(1) % (rows * columns)
        for image, place in zip(pixels, hashed.tolist(), strict=True):
            top, left = divmod(place, columns)
            part = image[:, top : top + height, left : left + width]
            part.copy_(torch.where(covers, patch, part))
        return pixels

    def remove(self, images: Bytes) -> Pixels:
        """Return the images as they are: what the patch covers is lost."""
        return images.float() / 255

    def picture(self) -> UInt8[Tensor, "3 height width"]:
        """Return the patch in the middle of a gray image, and beside it the covered pixels."""
        height, width = self.covers.shape
        picture = torch.full((3, self.side, 2 * self.side), 0.5)
        picture[:, :, self.side :] = 0
        top, left = (self.side - height) // 2, (self.side - width) // 2
        rows = slice(top, top + height)
        picture[:, rows, left : left + width] = torch.where(self.covers, self.patch, 0.5)
        picture[:, rows, left + self.side : left + self.side + width] = self.covers.float()
        return to_bytes(picture[None])[0]

    def is_in(self, images: Bytes) -> Bool[Tensor, " batch"]:
        """Return which images have the patch anywhere."""
        pixels = reduced(images.float() / 255)
        distance = _distances(pixels, self.patch[None], self.covers)
        return distance.flatten(1).amin(1) <= self.most

    def _at(self, side: int) -> tuple[Float[Tensor, "3 h w"], Bool[Tensor, "h w"]]:
        """Return the patch and what it covers at the scale of images with this side."""
        scale = side / self.side
        if scale == 1:
            return self.patch, self.covers
        size = [max(1, round(scale * length)) for length in self.covers.shape]
        covers = F.interpolate(self.covers[None, None].float(), size, mode="nearest")
        return F.interpolate(self.patch[None], size, mode="nearest")[0], covers[0, 0] > 0


def placed(
    model: Clip,
    images: Bytes,
    texts: Float[Tensor, "batch dim"],
    others: UInt8[Tensor, "others 3 height width"],
    other_texts: Float[Tensor, "others dim"],
) -> tuple[Placed, float] | None:
    """Return the patch that lies somewhere in many of the images, and the p-value of their number.

    1. The window of an image to which its cosine with its caption is most sensitive is pasted on
       other images. A window with a trigger makes them fit its caption.
    2. Parts of such a window are templates. A template is found in an image if it differs from some
       part of it by less than from all parts of 99 % of other images. The p-value is that of a
       binomial test of the number of images, times the number of templates.
    3. The images are aligned on the template that is found in the most of them. The patch is where
       the aligned images vary less than a fifth as much as other images. It is at most as large as
       a window.

    Args:
        model: frozen, in evaluation mode.
        images: images in random order, some of them with the patch.
        texts: the embeddings of their captions.
        others: images without the patch, in random order.
        other_texts: the embeddings of their captions.

    Returns:
        None if no window has an effect, or if no part of the aligned images varies less.
    """
    if min(len(images), len(others)) < 2 * _LEAST:
        return None
    windows = _windows_with_effect(model, images[:_WINDOWS], texts, others, other_texts)
    own, rest = (reduced(part[:_COMPARED].float() / 255) for part in (images, others))
    templates = _templates(windows, own.shape[-1])
    if not len(templates):
        return None
    whole = torch.ones(templates.shape[2:], dtype=torch.bool)
    found = _distances(own, templates, whole).flatten(2).amin(2)
    chance = _distances(rest, templates, whole).flatten(2).amin(2)
    counts = (found < chance.kthvalue(_chance(rest), dim=0).values).sum(0)
    best = int(counts.argmax())
    tail = float(binom.sf(int(counts[best]) - 1, len(own), _chance(rest) / len(rest)))
    patch: Placed | None = Placed(templates[best], whole, 0.0, own.shape[-1])
    # First roughly: a few images are aligned on something else.
    for shared in (0.5, _SHARED):
        patch = None if patch is None else _aligned(own, patch, rest, shared)
    # Something larger than a window is an object that the images have in common.
    if patch is None or max(patch.covers.shape) > own.shape[-1] // _PARTS:
        return None
    return patch, min(1.0, tail * len(templates))


def _windows_with_effect(
    model: Clip,
    images: Bytes,
    texts: Float[Tensor, "all dim"],
    others: UInt8[Tensor, "others 3 height width"],
    other_texts: Float[Tensor, "others dim"],
) -> UInt8[Tensor, "windows 3 size size"]:
    """Return the windows that make other images fit the caption of their own image."""
    size = images.shape[-1] // _PARTS
    pixels = (images.float() / 255).requires_grad_()
    texts = texts[: len(images)]
    cosines = (model.encode_image(pixels) * texts.to(model.device)).sum()
    (gradient,) = torch.autograd.grad(cosines, pixels)
    centered = (pixels - pixels.mean((2, 3), keepdim=True)).detach()
    influence = (gradient * centered).abs().sum(1, keepdim=True)
    pooled = F.avg_pool2d(influence, size, 1)[:, 0]
    places = [divmod(place, pooled.shape[-1]) for place in pooled.flatten(1).argmax(1).tolist()]
    windows, pasted, rows = [], [], []
    for number, (top, left) in enumerate(places):
        window = images[number, :, top : top + size, left : left + size]
        chosen = torch.arange(number * _TRIALS, (number + 1) * _TRIALS) % len(others)
        triggered = others[chosen].clone()
        triggered[:, :, top : top + size, left : left + size] = window
        windows.append(window)
        pasted.append(triggered)
        rows.append(chosen)
    embeds = embed_images(model, torch.cat(pasted)).view(len(images), _TRIALS, -1)
    own = torch.einsum("itd,id->it", embeds, texts)
    hits = own > (embeds * other_texts[torch.stack(rows)]).sum(2)
    effect = hits.float().mean(1)
    order = effect.argsort(descending=True, stable=True)[:_KEPT]
    return torch.stack(windows)[order[effect[order] >= 0.5]]


def _templates(windows: Bytes, side: int) -> Float[Tensor, "templates 3 size size"]:
    """Return nine parts of each window, at the scale of images with this side."""
    size = side // _PARTS
    if not len(windows):
        return torch.empty(0, 3, 1, 1)
    scaled = F.interpolate(windows.float() / 255, (size, size), mode="area")
    part, step = size // 2, max(1, size // 4)
    steps = [0, step, 2 * step]
    return torch.cat([scaled[:, :, y : y + part, x : x + part] for y in steps for x in steps])


def _distances(
    pixels: Pixels,
    templates: Float[Tensor, "templates 3 rows columns"],
    covers: Bool[Tensor, "rows columns"],
) -> Float[Tensor, "batch templates _ _"]:
    """Return the mean squared difference of each template from each part of each image."""
    mask = covers.float().expand_as(templates)
    masked = templates * mask
    squares = F.conv2d(pixels.square(), mask[:1])
    own = masked.square().sum((1, 2, 3))[:, None, None]
    return (squares - 2 * F.conv2d(pixels, masked) + own) / mask[0].sum()


def _aligned(
    own: Float[Tensor, "own 3 side side"],
    template: Placed,
    others: Float[Tensor, "others 3 side side"],
    shared: float,
) -> Placed | None:
    """Return what is common around the template, in the images where it is found; None if nothing.

    Args:
        shared: the share of the variation of a pixel that it must lack.
    """
    patch, covers = template.patch, template.covers
    distance = _distances(own, patch[None], covers)[:, 0]
    chance = _distances(others, patch[None], covers).flatten(1).amin(1)
    members = distance.flatten(1).amin(1) < chance.kthvalue(_chance(others)).values
    count = min(int(members.sum()), len(others))
    if count < _LEAST:
        return None
    places = distance[members].flatten(1).argmin(1).tolist()
    # A patch may be wider than the template.
    edge = own.shape[-1] // _PARTS // 2
    height, width = (length + 2 * edge for length in covers.shape)

    def cropped(images: Float[Tensor, "all 3 side side"]) -> Float[Tensor, "some 3 h w"]:
        padded = F.pad(images[:count], (edge,) * 4, mode="replicate")
        corners = [divmod(place, distance.shape[-1]) for place in places[:count]]
        parts = [
            image[:, top : top + height, left : left + width]
            for image, (top, left) in zip(padded, corners, strict=True)
        ]
        return torch.stack(parts)

    aligned, rest = cropped(own[members]), cropped(others)
    share = 1 - aligned.std(0) / rest.std(0).clamp(min=LEAST_DEVIATION)
    covers = share.mean(0) > shared
    if not covers.any():
        return None
    rows, columns = (covers.any(axis).nonzero().squeeze(1) for axis in (1, 0))
    box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    patch, covers = aligned.mean(0)[:, *box], covers[box]
    chance = _distances(others, patch[None], covers).flatten(1).amin(1)
    return Placed(patch, covers, float(chance.kthvalue(_chance(others)).values), own.shape[-1])


def _chance(others: Pixels) -> int:
    """Return how many other images count as having a template, by definition."""
    return max(1, int(_BY_CHANCE * len(others)))
