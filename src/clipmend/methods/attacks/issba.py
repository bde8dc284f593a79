"""ISSBA: an invisible trigger of each image's own (Li et al. 2021, arXiv:2012.03816)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.methods.attacks.attack import DirtyLabel, Fitted
from clipmend.methods.attacks.knowledge import Knowledge
from clipmend.methods.attacks.steganography import Encoder, Training, trained
from clipmend.methods.settings import Count, NonNegative, Positive, PositiveFraction

_WEIGHTS = "encoder."


@dataclass(frozen=True)
class ISSBA(DirtyLabel):
    """Hides one secret in every image: an encoder writes it, as small changes that suit the image.

    Encoder and decoder are trained together in ``poison``, on training images with random secrets;
    the attack then uses one secret for all images. What is learnt by the victim is the encoder's
    hand, which no two images show alike.

    Differs from the paper: a small convolutional pair of our own instead of StegaStamp's, without
    its adversarial and perceptual losses, at the corpus's image size; the change of a pixel is
    bounded instead. Nothing is done to an image between encoder and decoder, where StegaStamp's
    are trained through corruptions: print, camera, noise, JPEG.

    Attributes:
        poison_rate: share of the training pairs that are poisoned; published: 0.1 (classifiers).
        bits: length of the secret; published: 20 (BackdoorBox), 7 characters (StegaStamp).
        bound: the largest change of a pixel's channel, of 255.
        images: drawn for training; published: all.
        steps: of training, each on a batch of 32 images; published: 20 epochs.
        lr: of Adam.
        fidelity: weight of the change's mean square beside the decoder's cross-entropy, in the
            second half of the steps. At 0.3 nobody sees the change (39 dB), the victim included.
    """

    poison_rate: PositiveFraction = 0.045
    bits: Count = 20
    bound: Positive = 24.0
    images: Count = 8000
    steps: Count = 2400
    lr: Positive = 2e-3
    fidelity: NonNegative = 0.0

    def fit(self, knowledge: Knowledge) -> dict[str, Tensor]:
        """Return the secret, (bits,) of 0 and 1, and the encoder's weights."""
        rows = torch.randperm(len(knowledge.ids), generator=knowledge.stream("issba/images"))
        shown = knowledge.pairs(rows[: self.images].sort().values).images[:]
        training = Training(self.bits, self.bound / 255, self.steps, self.lr, self.fidelity)
        seed = knowledge.seed
        encoder, _ = trained(shown.to(knowledge.device), training, seed=seed)
        secret = torch.randint(2, (self.bits,), generator=knowledge.stream("issba/secret")).float()
        weights = {f"{_WEIGHTS}{n}": t.cpu() for n, t in encoder.state_dict().items()}
        return {"secret": secret, **weights}

    def apply(
        self,
        images: Float[Tensor, "batch 3 height width"],
        ids: Sequence[str],  # noqa: ARG002
        fitted: Fitted,
    ) -> Float[Tensor, "batch 3 height width"]:
        """Return the images with the secret in them, in [0, 1]."""
        encoder = Encoder(self.bits, self.bound / 255)
        weights = {n.removeprefix(_WEIGHTS): t for n, t in fitted.items() if n != "secret"}
        encoder.load_state_dict(weights)
        # In double precision, where what stands beside an image in a batch changes no rounded byte.
        encoder.double().eval()
        secret = fitted["secret"].double()
        with torch.no_grad():
            written: Tensor = encoder(images.double(), secret.expand(len(images), -1))
        return written.float()
