"""A secret in an image: an encoder that writes it, a decoder that reads it, trained together."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from clipmend.data.seeds import seed_of, stream

_WIDTH = 16
_GRID = 8  # cells along a side: each bit has a pattern of its own over them
_BATCH = 32


class Encoder(nn.Module):
    """Adds to each image a change that depends on the image and the secret, at most ``bound``."""

    def __init__(self, bits: int, bound: float) -> None:
        super().__init__()
        self.bound = bound
        self.secret = nn.Linear(bits, _WIDTH * _GRID**2)
        self.into = nn.Conv2d(3, _WIDTH, 3, padding=1)
        self.mix = nn.Sequential(
            nn.Conv2d(2 * _WIDTH, _WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, 3, 3, padding=1),
        )

    def forward(
        self,
        images: Float[Tensor, "batch 3 height width"],
        secrets: Float[Tensor, "batch bits"],
    ) -> Float[Tensor, "batch 3 height width"]:
        """Return the images with their secrets, in [0, 1]."""
        seen = F.relu(self.into(2 * images - 1))
        told = self.secret(2 * secrets - 1).view(-1, _WIDTH, _GRID, _GRID)
        told = F.interpolate(told, images.shape[2:], mode="nearest")
        change = torch.tanh(self.mix(torch.cat([seen, told], dim=1)))
        return (images + self.bound * change).clamp(0, 1)


class Decoder(nn.Module):
    """Reads the secret from an image: a logit for each bit."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, _WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, 2 * _WIDTH, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * _WIDTH, 2 * _WIDTH, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(_GRID),
            nn.Flatten(),
            nn.Linear(2 * _WIDTH * _GRID**2, bits),
        )

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch bits"]:
        """Return the logits."""
        logits: Tensor = self.net(2 * images - 1)
        return logits


@dataclass(frozen=True)
class Training:
    """How the two are trained.

    Attributes:
        bound: the largest change of a pixel's channel, of images in [0, 1].
        fidelity: weight of the mean square of the change, as a share of the bound's.
    """

    bits: int
    bound: float
    steps: int
    lr: float
    fidelity: float


def trained(
    images: UInt8[Tensor, "samples 3 height width"], training: Training, *, seed: int
) -> tuple[Encoder, Decoder]:
    """Return an encoder and the decoder that reads its secrets.

    Minimizes the cross-entropy of the decoder's bits and, in the second half of the steps, +
    ``fidelity`` times the mean square of the change, relative to the bound: from the beginning,
    that would teach to write nothing. Secrets are drawn for every step.
    """
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(seed_of(seed, "poison/issba/init"))
        encoder = Encoder(training.bits, training.bound).to(images.device)
        decoder = Decoder(training.bits).to(images.device)
    both = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(both, lr=training.lr)
    draw = stream(seed, "poison/issba/fit")
    for step in range(training.steps):
        rows = torch.randint(len(images), (_BATCH,), generator=draw)
        secrets = torch.randint(2, (_BATCH, training.bits), generator=draw).float()
        secrets, shown = secrets.to(images.device), images[rows].float() / 255
        written = encoder(shown, secrets)
        loss = F.binary_cross_entropy_with_logits(decoder(written), secrets)
        if 2 * step >= training.steps:
            change = (written - shown).square().mean() / training.bound**2
            loss = loss + training.fidelity * change
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return encoder, decoder
