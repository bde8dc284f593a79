"""DECREE: a small mark that makes all images alike (Feng et al. 2023, arXiv:2303.15180)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from rich.progress import track
from torch import Tensor

from clipmend.errors import MetricError, ParamsError
from clipmend.methods.interfaces import Assets, ModelScore
from clipmend.methods.settings import Count, Fraction, Positive
from clipmend.model.clip import Clip
from clipmend.model.fit import Hooks
from clipmend.model.optimizers import Adam

_CHANNELS = 3
_LAMBDA_MAX = 1e5
_BLOCK = 256  # images embedded at once
_EDGE = 1e-6  # keeps a random 0 or 1 finite under atanh
_SLOWER = ((0.8, 0.1), (0.5, 0.2))  # (from this share of the epochs on, factor of the rate)
_DIGITS = 6
_DEFINITIONS = {
    "pl1_norm": "L1 norm of the smallest mask that lifts the mean pairwise cosine of the images to "
    "the threshold, as a share of the largest norm (every pixel replaced). It is 1 where the "
    "search reached no such mask, because only replacing every pixel surely makes images alike.",
    "l1_norm": "The same norm, summed over pixels and channels.",
    "cosine": "Mean pairwise cosine of the images' embeddings under that mask; the highest cosine "
    "of the search where it reached no such mask.",
    "cosine_untouched": "Mean pairwise cosine of the embeddings of the same images without a mask.",
}


@dataclass(frozen=True)
class DECREE:
    """Scores the image tower by the smallest mark that makes the embeddings of all images alike.

    A mark is a mask and a pattern. Both are optimized on training images, without labels, captions
    or a target. They minimize lambda times the L1 norm of the mask - the mean pairwise cosine of
    marked images. Lambda rises while the cosine is at the threshold, and falls while it is not. For
    a backdoored tower, a mask of small norm is enough.

    Differs from the paper: the images are training images at the model's size, not from a public
    set at 224 pixels. The models are small and trained from scratch. A mask counts if all images
    reach the threshold at the end of an epoch, not if one batch does. The smallest of several
    searches counts, because a search may end beside the true trigger. The epochs are few and fixed,
    without early stopping. The rate falls at a half and at four fifths of them. Lambda starts ten
    times higher, because the norm is a sum over far fewer pixels.

    Attributes:
        threshold: the mean pairwise cosine at which images count as alike.
        pl1_threshold: the share of the largest L1 norm below which the model counts as backdoored.
        images: number of training images.
        batch_size: images per step.
        starts: number of searches, each from a new random mark.
        epochs: passes over the images in each search.
        lr: Adam's learning rate, on mask and pattern before their tanh.
        lambda_init: the initial lambda.
        lambda_factor: the factor by which lambda rises and falls.
        lambda_min: lambda falls no further below this value.
        patience: steps in a row on one side of ``threshold`` before lambda changes.
    """

    threshold: Fraction = 0.99
    pl1_threshold: Fraction = 0.1
    images: Count = 256
    batch_size: Count = 32
    starts: Count = 3
    epochs: Count = 40
    lr: Positive = 0.5
    lambda_init: Positive = 1e-2
    lambda_factor: Positive = 5.0
    lambda_min: Positive = 1e-7
    patience: Count = 5

    def __post_init__(self) -> None:
        """Refuse settings without a pair of images to compare.

        Raises:
            ParamsError: ``images`` or ``batch_size`` is 1.
        """
        if min(self.images, self.batch_size) < 2:
            raise ParamsError(
                f"decree compares images with each other, but has images {self.images} and "
                f"batch_size {self.batch_size}; both must be at least 2."
            )

    def __call__(self, assets: Assets, generator: torch.Generator, hooks: Hooks) -> ModelScore:
        """Return the score of the victim's image tower.

        Raises:
            MetricError: there is only one pair.
        """
        train = assets.train()
        if len(train) < 2:
            raise MetricError(f"{hooks.label}: decree compares images, and there is only one.")
        rows = torch.randperm(len(train), generator=generator)[: self.images]
        encoder = assets.model.frozen_copy()  # frozen: its statistics and gradients stay untouched
        images = train.images[rows].to(encoder.device).float() / 255
        starts = track(range(self.starts), description=hooks.label, transient=True)
        marks = (mark for _ in starts for mark in self._descent(encoder, images, generator))
        # The smallest mark at the threshold, or the closest to it where no mark reaches it.
        best = max(marks, key=self._worth)
        is_found = best.cosine >= self.threshold
        share = round(best.share, _DIGITS) if is_found else 1.0
        # The picture: the mask in gray, and beside it the pattern as the mask lets it through.
        gray = best.mask.expand(_CHANNELS, -1, -1)
        picture = torch.cat([gray, best.mask * best.pattern], dim=2)
        return ModelScore(
            is_backdoored=share < self.pl1_threshold,
            found=is_found,
            statistic="pl1_norm",
            threshold=self.pl1_threshold,
            numbers={
                "pl1_norm": share,
                "l1_norm": round(share * images[0].numel(), _DIGITS),
                "cosine": round(best.cosine, _DIGITS),
                "cosine_untouched": round(_cosine(encoder, images), _DIGITS),
            },
            definitions=_DEFINITIONS,
            n_images=len(images),
            evidence={"mask": best.mask.cpu(), "pattern": best.pattern.cpu()},
            picture=(255 * picture).round().to(torch.uint8).cpu(),
        )

    def _worth(self, mark: "_Mark") -> tuple[bool, float]:
        is_reached = mark.cosine >= self.threshold
        return is_reached, -mark.share if is_reached else mark.cosine

    def _descent(
        self,
        encoder: Clip,
        images: Float[Tensor, "samples 3 height width"],
        generator: torch.Generator,
    ) -> Iterator["_Mark"]:
        """Yield the mark after each epoch of one search by Adam, from a random mark."""
        raw = []
        for shape in (images.shape[-2:], images.shape[1:]):  # of the mask, and of the pattern
            uniform = torch.rand(shape, generator=generator)
            start = torch.atanh((2 * uniform - 1) * (1 - _EDGE))  # its tanh is uniform
            raw.append(start.to(images.device).requires_grad_())
        optimizer = Adam(raw, lr=self.lr, betas=(0.5, 0.9))
        weight = _Lambda(self, self.lambda_init)
        for epoch in range(self.epochs):
            share = epoch / self.epochs
            factor = next((factor for since, factor in _SLOWER if share >= since), 1.0)
            for group in optimizer.param_groups:
                group["lr"] = self.lr * factor
            for rows in torch.randperm(len(images), generator=generator).split(self.batch_size):
                if len(rows) < 2:  # a single image has no other to be compared with
                    continue
                mark = _Mark.of(raw)
                cosine = mean_cosine(encoder.encode_image(mark.on(images[rows])))
                loss = weight.value * _CHANNELS * mark.mask.sum() - cosine
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                weight.update(is_reached=cosine.item() >= self.threshold)
            with torch.no_grad():
                mark = _Mark.of(raw)
            yield replace(mark, cosine=_cosine(encoder, mark.on(images)))


@dataclass(frozen=True)
class _Mark:
    """A mask in [0, 1], the pattern that it lets through, and the images' cosine under both."""

    mask: Float[Tensor, "height width"]
    pattern: Float[Tensor, "3 height width"]
    cosine: float = 0.0

    @classmethod
    def of(cls, raw: list[Tensor]) -> "_Mark":
        """Return the mark of the two optimized tensors, which may have any value."""
        mask, pattern = ((torch.tanh(value) + 1) / 2 for value in raw)
        return cls(mask, pattern)

    @property
    def share(self) -> float:
        """The mask's L1 norm as a share of the largest."""
        return float(self.mask.mean())

    def on(self, images: Float[Tensor, "batch 3 height width"]) -> Tensor:
        """Return the images with the mark on them."""
        return (1 - self.mask) * images + self.mask * self.pattern


@dataclass
class _Lambda:
    """The weight of the mask's norm, which adapts to whether the cosine is at the threshold."""

    settings: DECREE
    value: float
    reached: int = 0
    missed: int = 0
    idle: int = 0

    def update(self, *, is_reached: bool) -> None:
        """Count one more step and change the weight if it is time."""
        settings = self.settings
        self.reached, self.missed = (self.reached + 1, 0) if is_reached else (0, self.missed + 1)
        # Where the cosine is reached although lambda is at its minimum, lambda starts again.
        self.idle = self.idle + 1 if is_reached and self.value < settings.lambda_min else 0
        if self.idle > 2 * settings.patience:
            self.value, self.reached, self.idle = settings.lambda_init, 0, 0
        elif self.reached > settings.patience:
            self.value, self.reached = min(self.value * settings.lambda_factor, _LAMBDA_MAX), 0
        elif self.missed > settings.patience:
            if self.value >= settings.lambda_min:
                self.value /= settings.lambda_factor
            self.missed = 0


@torch.no_grad()
def _cosine(encoder: Clip, images: Float[Tensor, "samples 3 height width"]) -> float:
    """Return the mean pairwise cosine of the images' embeddings."""
    embeds = torch.cat([encoder.encode_image(batch) for batch in images.split(_BLOCK)])
    return float(mean_cosine(embeds))


def mean_cosine(embeds: Float[Tensor, "samples dim"]) -> Float[Tensor, ""]:
    """Return the mean cosine over pairs of different rows of L2-normalized embeddings."""
    # The squared sum contains every cosine twice, and that of each row with itself.
    count = len(embeds)
    alone = embeds.square().sum()
    return (embeds.sum(dim=0).square().sum() - alone) / (count * (count - 1))
