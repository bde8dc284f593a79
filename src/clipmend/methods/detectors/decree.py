"""DECREE: does a small mark make all images alike? (Feng et al. 2023, arXiv:2303.15180)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float, UInt8
from rich.progress import track
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.errors import MetricError, ParamsError
from clipmend.methods.detectors.detector import Verdict, Victim
from clipmend.methods.settings import Count, Fraction, Positive
from clipmend.model.clip import Clip
from clipmend.model.fit import Hooks

_CHANNELS = 3
_LAMBDA_MAX = 1e5
_AT_ONCE = 256  # images that are embedded together
_EDGE = 1e-6  # keeps a drawn 0 or 1 at a finite place under atanh
_SLOWER = ((0.8, 0.1), (0.5, 0.2))  # (from this share of the epochs on, share of the rate)
_DIGITS = 6
_DEFINITIONS = {
    "pl1_norm": "L1 norm of the smallest mask under which images reach the mean pairwise cosine "
    "that is asked for, as a share of the largest (every pixel replaced); 1 where none was found, "
    "since only the whole pattern in the images' place is sure to make them all alike.",
    "l1_norm": "The same norm, summed over pixels and channels.",
    "cosine": "Mean pairwise cosine of the embeddings of the images under that mask; the highest "
    "that was reached where no mask was found.",
    "cosine_untouched": "Mean pairwise cosine of the embeddings of the same images as they are.",
}


@dataclass(frozen=True)
class DECREE:
    """Judges the image tower by the smallest mask and pattern that make all embeddings alike.

    Without labels, captions or a target: mask and pattern are fitted to the mean pairwise
    cosine of marked images, under a penalty on the mask's L1 norm whose weight, lambda, rises
    while the cosine is reached and falls while it is not. A backdoored tower is one that a mask
    of small norm suffices for.

    Differs from the paper: images are drawn from the training pairs, at our size, not from a
    public set at 224 pixels; the models are small and trained from nothing; a mask counts
    when all drawn images reach the cosine at an epoch's end, not when one batch does; the
    smallest of several starts counts, since a search may end beside the true trigger; epochs
    are few and fixed, without an early stop; the rate falls at a half and at four fifths of
    them; lambda begins ten times higher, as the norm is a sum over far fewer pixels.

    Attributes:
        threshold: mean pairwise cosine at which images count as alike.
        pl1_threshold: below this share of the largest L1 norm the model counts as backdoored.
        images: how many training images are drawn.
        starts: how often the search begins, each time from a mark drawn anew.
        epochs: passes over the images after each start.
        lr: of Adam, on mask and pattern before their tanh.
        lambda_init: weight of the L1 norm at the start.
        lambda_factor: by which lambda rises and falls.
        lambda_min: below this lambda falls no further.
        patience: steps in a row, on one side of ``threshold``, that lambda does not answer.
    """

    needs: ClassVar[tuple[str, ...]] = ("train",)

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
        """Refuse what no cosine between images can be taken of.

        Raises:
            ParamsError: fewer than two images, in all or in a batch.
        """
        if min(self.images, self.batch_size) < 2:
            raise ParamsError(
                f"decree was given images {self.images} and batch_size {self.batch_size}; it "
                "compares images with each other: both must be 2 at least."
            )

    def __call__(
        self, victim: Victim, train: Pairs, generator: torch.Generator, hooks: Hooks
    ) -> Verdict:
        """Return the verdict on the victim's image tower.

        Raises:
            MetricError: there are fewer than two pairs.
        """
        if len(train) < 2:
            raise MetricError(f"{hooks.label}: decree compares images; one pair has no other.")
        rows = torch.randperm(len(train), generator=generator)[: self.images]
        encoder = victim.model.frozen_copy()  # frozen: no statistic moves, no gradient is kept
        search = _Search(self, encoder, train.images[rows].to(encoder.device).float() / 255)
        return self._verdict(search, search.run(generator, hooks.label))

    def _verdict(self, search: "_Search", best: "_Mark") -> Verdict:
        found = best.cosine >= self.threshold
        share = round(best.share, _DIGITS) if found else 1.0
        numbers = {
            "pl1_norm": share,
            "l1_norm": round(share * search.images[0].numel(), _DIGITS),
            "cosine": round(best.cosine, _DIGITS),
            "cosine_untouched": round(search.cosine(search.images), _DIGITS),
        }
        return Verdict(
            is_backdoored=share < self.pl1_threshold,
            found=found,
            statistic="pl1_norm",
            threshold=self.pl1_threshold,
            numbers=numbers,
            definitions=_DEFINITIONS,
            n_images=len(search.images),
            evidence={"mask": best.mask.cpu(), "pattern": best.pattern.cpu()},
            picture=_drawn(best),
        )


@dataclass(frozen=True)
class _Mark:
    """A mask in [0, 1] with the pattern that it lets through, and what they do to all images."""

    mask: Float[Tensor, "height width"]
    pattern: Float[Tensor, "3 height width"]
    cosine: float = 0.0

    @property
    def share(self) -> float:
        """The mask's L1 norm as a share of the largest."""
        return float(self.mask.mean())

    def on(self, images: Float[Tensor, "batch 3 height width"]) -> Tensor:
        """Return the images with the mark on them."""
        return (1 - self.mask) * images + self.mask * self.pattern


@dataclass
class _Lambda:
    """The weight of the mask's norm, which follows whether the cosine is reached."""

    settings: DECREE
    value: float
    reached: int = 0
    missed: int = 0
    idle: int = 0

    def follow(self, is_reached: bool) -> None:
        """Take one more step into account."""
        settings = self.settings
        self.reached, self.missed = (self.reached + 1, 0) if is_reached else (0, self.missed + 1)
        # Where lambda fell away and the cosine is reached all the same, it begins anew.
        self.idle = self.idle + 1 if is_reached and self.value < settings.lambda_min else 0
        if self.idle > 2 * settings.patience:
            self.value, self.reached, self.idle = settings.lambda_init, 0, 0
        elif self.reached > settings.patience:
            self.value, self.reached = min(self.value * settings.lambda_factor, _LAMBDA_MAX), 0
        elif self.missed > settings.patience:
            if self.value >= settings.lambda_min:
                self.value /= settings.lambda_factor
            self.missed = 0


@dataclass(frozen=True)
class _Search:
    """The inversion: Adam on mask and pattern, and the best mark on the way.

    Attributes:
        images: all drawn images, in [0, 1].
    """

    settings: DECREE
    encoder: Clip
    images: Float[Tensor, "samples 3 height width"]

    def run(self, generator: torch.Generator, label: str) -> _Mark:
        """Return the smallest mark that reaches the cosine, or the nearest to it if none does.

        The generator draws the marks that the search begins at, and the batches.
        """
        starts = track(range(self.settings.starts), description=label, transient=True)
        found = (mark for _ in starts for mark in self._descent(generator))
        return max(found, key=self._worth)

    def _descent(self, generator: torch.Generator) -> Iterator[_Mark]:
        """Yield the mark after each epoch, from one start."""
        settings = self.settings
        height, width = self.images.shape[-2:]
        raw = [_raw((height, width), generator), _raw((_CHANNELS, height, width), generator)]
        raw = [start.to(self.images.device).requires_grad_() for start in raw]
        optimizer = torch.optim.Adam(raw, lr=settings.lr, betas=(0.5, 0.9))
        weight = _Lambda(settings, settings.lambda_init)
        for epoch in range(settings.epochs):
            for group in optimizer.param_groups:
                group["lr"] = settings.lr * _rate(epoch / settings.epochs)
            order = torch.randperm(len(self.images), generator=generator)
            for rows in order.split(settings.batch_size):
                if len(rows) > 1:  # one image has no other to be compared with
                    self._step(self.images[rows], raw, optimizer, weight)
            yield self._measured(raw)

    def cosine(self, images: Float[Tensor, "samples 3 height width"]) -> float:
        """Return the mean pairwise cosine of the images' embeddings."""
        with torch.no_grad():
            batches = images.split(_AT_ONCE)
            embeds = torch.cat([self.encoder.encode_image(batch) for batch in batches])
        return float(mean_cosine(embeds))

    def _step(
        self,
        images: Float[Tensor, "batch 3 height width"],
        raw: list[Tensor],
        optimizer: torch.optim.Optimizer,
        weight: _Lambda,
    ) -> None:
        mark = _marked(raw)
        cosine = mean_cosine(self.encoder.encode_image(mark.on(images)))
        loss = weight.value * _CHANNELS * mark.mask.sum() - cosine
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        weight.follow(cosine.item() >= self.settings.threshold)

    def _measured(self, raw: list[Tensor]) -> _Mark:
        with torch.no_grad():
            mark = _marked(raw)
        return replace(mark, cosine=self.cosine(mark.on(self.images)))

    def _worth(self, mark: _Mark) -> tuple[bool, float]:
        reached = mark.cosine >= self.settings.threshold
        return reached, -mark.share if reached else mark.cosine


def mean_cosine(embeds: Float[Tensor, "samples dim"]) -> Float[Tensor, ""]:
    """Return the mean cosine over pairs of different rows of L2-normalized embeddings."""
    # The square of the sum holds every cosine twice, and each row's with itself.
    count = len(embeds)
    alone = embeds.square().sum()
    return (embeds.sum(dim=0).square().sum() - alone) / (count * (count - 1))


def _raw(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return uniform values in (0, 1) as they lie before the tanh."""
    drawn = torch.rand(shape, generator=generator)
    return torch.atanh((2 * drawn - 1) * (1 - _EDGE))


def _marked(raw: list[Tensor]) -> _Mark:
    mask, pattern = ((torch.tanh(value) + 1) / 2 for value in raw)
    return _Mark(mask, pattern)


def _rate(share: float) -> float:
    return next((rate for since, rate in _SLOWER if share >= since), 1.0)


def _drawn(mark: _Mark) -> UInt8[Tensor, "3 height doublewidth"]:
    """Return the mask in gray, and beside it the pattern as the mask lets it through."""
    gray = mark.mask.expand(_CHANNELS, -1, -1)
    pair = torch.cat([gray, mark.mask * mark.pattern], dim=2)
    return (255 * pair).round().to(torch.uint8).cpu()
