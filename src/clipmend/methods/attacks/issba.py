"""ISSBA: an invisible trigger that suits each image (Li et al. 2021, arXiv:2012.03816)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from clipmend.data.seeds import seed_of, stream
from clipmend.methods.attacks.attack import AttackContext, ImageBatch, SingleTrigger, TriggerTensors
from clipmend.methods.settings import Count, NonNegative, Positive, PositiveFraction
from clipmend.model.optimizers import Adam

_PREFIX = "encoder."
_WIDTH = 16
_GRID = 8  # cells along a side: each bit has its own pattern over them
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

    def forward(self, images: ImageBatch, secrets: Float[Tensor, "batch bits"]) -> ImageBatch:
        """Return the images with their secrets, in [0, 1]."""
        image_features = F.relu(self.into(2 * images - 1))
        bit_features = self.secret(2 * secrets - 1).view(-1, _WIDTH, _GRID, _GRID)
        bit_features = F.interpolate(bit_features, images.shape[2:], mode="nearest")
        change = torch.tanh(self.mix(torch.cat([image_features, bit_features], dim=1)))
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

    def forward(self, images: ImageBatch) -> Float[Tensor, "batch bits"]:
        """Return the logits."""
        logits: Tensor = self.net(2 * images - 1)
        return logits


@dataclass(frozen=True)
class ISSBA(SingleTrigger):
    """Hides one secret in every image: an encoder writes it as small changes that suit the image.

    The stage ``poison`` trains encoder and decoder together on training images with random
    secrets. The attack then uses one secret for all images. The victim learns the encoder's
    style, not a pattern: no two images show the same change.

    Differs from the paper: a small convolutional pair of our own instead of StegaStamp's, without
    its adversarial and perceptual losses, at the corpus's image size; the change of a pixel is
    bounded instead. Nothing corrupts an image between encoder and decoder, where StegaStamp's
    pair is trained through print, camera, noise and JPEG.

    Attributes:
        poison_rate: share of the training pairs that are poisoned; published: 0.1 (classifiers).
        bits: length of the secret; published: 20 (BackdoorBox), 7 characters (StegaStamp).
        bound: largest change of a pixel's channel, in units of 1/255.
        images: number of images for training the encoder; published: all.
        steps: training steps, each on a batch of 32 images; published: 20 epochs.
        lr: learning rate of Adam.
        fidelity: weight of the change's mean square beside the decoder's cross-entropy, in the
            second half of the steps.
    """

    poison_rate: PositiveFraction = 0.045
    bits: Count = 20
    bound: Positive = 24.0
    images: Count = 8000
    steps: Count = 2400
    lr: Positive = 2e-3
    fidelity: NonNegative = 0.0  # at 0.3 (39 dB) the change is invisible, to the victim too

    def fit(self, context: AttackContext) -> dict[str, Tensor]:
        """Return the secret, (bits,) of 0 and 1, and the encoder's weights."""
        order = torch.randperm(len(context.ids), generator=context.stream("issba/images"))
        images = context.load(order[: self.images].sort().values).images[:].to(context.device)
        encoder, _ = self.train(images, context.seed)
        secret = torch.randint(2, (self.bits,), generator=context.stream("issba/secret")).float()
        weights = {f"{_PREFIX}{name}": t.cpu() for name, t in encoder.state_dict().items()}
        return {"secret": secret, **weights}

    def train(
        self, images: UInt8[Tensor, "samples 3 height width"], seed: int
    ) -> tuple[Encoder, Decoder]:
        """Return an encoder and the decoder that reads its secrets.

        Minimizes the cross-entropy of the decoder's bits. The second half of the steps adds
        ``fidelity`` times the mean square of the change, as a share of the squared bound. Every
        step has new random secrets.
        """
        bound = self.bound / 255
        # New layers take their weights from torch's global generator alone.
        with torch.random.fork_rng(devices=[]):
            torch.random.manual_seed(seed_of(seed, "poison/issba/init"))
            encoder = Encoder(self.bits, bound).to(images.device)
            decoder = Decoder(self.bits).to(images.device)
        parameters = [*encoder.parameters(), *decoder.parameters()]
        optimizer = Adam(parameters, lr=self.lr)
        generator = stream(seed, "poison/issba/fit")
        for step in range(self.steps):
            rows = torch.randint(len(images), (_BATCH,), generator=generator)
            secrets = torch.randint(2, (_BATCH, self.bits), generator=generator).float()
            secrets, clean = secrets.to(images.device), images[rows].float() / 255
            encoded = encoder(clean, secrets)
            loss = F.binary_cross_entropy_with_logits(decoder(encoded), secrets)
            # From the first step on, this term would teach the encoder to write nothing.
            if 2 * step >= self.steps:
                change = (encoded - clean).square().mean() / bound**2
                loss = loss + self.fidelity * change
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return encoder, decoder

    def apply(self, images: ImageBatch, ids: Sequence[str], tensors: TriggerTensors) -> ImageBatch:
        """Return the images with the secret in them, in [0, 1]."""
        encoder = Encoder(self.bits, self.bound / 255)
        weights = {name.removeprefix(_PREFIX): t for name, t in tensors.items() if name != "secret"}
        encoder.load_state_dict(weights)
        # In single precision a rounded byte could depend on the other images of the batch.
        encoder.double().eval()
        secret = tensors["secret"].double()
        with torch.no_grad():
            triggered: Tensor = encoder(images.double(), secret.expand(len(images), -1))
        return triggered.float()
