"""A secret in an image: an encoder that writes it, a decoder that reads it, trained together."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from clipmend.seeds import seed_of, stream

_WIDTH = 32
_BATCH = 64


class Encoder(nn.Module):
    """Adds to each image a change that depends on the image and the secret, at most ``bound``."""

    def __init__(self, bits: int, bound: float) -> None:
        super().__init__()
        self.bound = bound
        self.into = nn.Conv2d(3, _WIDTH, 3, padding=1)
        self.secret = nn.Linear(bits, _WIDTH)
        self.mix = nn.Sequential(
            nn.ReLU(),
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
        seen = self.into(2 * images - 1)
        told = self.secret(2 * secrets - 1)[:, :, None, None].expand(-1, -1, *seen.shape[2:])
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
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(32 * _WIDTH, bits),
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


def trained_encoder(
    images: UInt8[Tensor, "samples 3 height width"], training: Training, *, seed: int
) -> Encoder:
    """Return an encoder whose secrets a decoder, trained with it, reads.

    Minimises the cross-entropy of the decoder's bits + ``fidelity`` times the mean square of the
    change, relative to the bound. Secrets are drawn for every step.
    """
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(seed_of(seed, "poison/issba/init"))
        encoder = Encoder(training.bits, training.bound).to(images.device)
        decoder = Decoder(training.bits).to(images.device)
    both = [*encoder.parameters(), *decoder.parameters()]
    optimiser = torch.optim.Adam(both, lr=training.lr)
    draw = stream(seed, "poison/issba/fit")
    for _ in range(training.steps):
        rows = torch.randint(len(images), (_BATCH,), generator=draw)
        secrets = torch.randint(2, (_BATCH, training.bits), generator=draw).float()
        secrets, shown = secrets.to(images.device), images[rows].float() / 255
        written = encoder(shown, secrets)
        change = (written - shown).square().mean() / training.bound**2
        loss = F.binary_cross_entropy_with_logits(decoder(written), secrets)
        optimiser.zero_grad()
        (loss + training.fidelity * change).backward()
        optimiser.step()
    return encoder
