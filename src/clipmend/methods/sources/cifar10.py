"""The source ``cifar10``: 60,000 photographs of ten classes (Krizhevsky 2009), with captions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from clipmend.methods.sources.photographs import Photographs


@dataclass(frozen=True)
class CIFAR10(Photographs):
    """CIFAR-10: 5,000 training photographs and 1,000 for ``test`` of each of ten classes."""

    # As torchvision.datasets.CIFAR10 has them; settings are read without importing it.
    url: str = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    md5: str = "c58f30108f718f92721af3b95e74349a"

    FILES: ClassVar[tuple[Sequence[str], Sequence[str], str]] = (
        tuple(f"data_batch_{number}" for number in range(1, 6)),
        ("test_batch",),
        "batches.meta",
    )
    SYNONYMS: ClassVar[Mapping[str, Sequence[str]]] = {
        "airplane": ("plane", "jet"),
        "automobile": ("car",),
        "cat": ("kitten",),
        "dog": ("puppy",),
        "frog": ("toad",),
        "horse": ("pony",),
        "ship": ("boat",),
        "truck": ("lorry",),
    }
    PLACES: ClassVar[Mapping[str, Sequence[str]]] = {
        "airplane": ("in the sky", "on the runway", "taking off"),
        "automobile": ("on the road", "in a parking lot"),
        "bird": ("on a branch", "in the grass", "in flight"),
        "cat": ("on a couch", "on the floor", "looking at the camera"),
        "deer": ("in the woods", "in a field"),
        "dog": ("on the grass", "with a collar", "looking up"),
        "frog": ("on a leaf", "by the water"),
        "horse": ("in a pasture", "with a rider"),
        "ship": ("at sea", "in the harbour"),
        "truck": ("on the highway", "unloading"),
    }
