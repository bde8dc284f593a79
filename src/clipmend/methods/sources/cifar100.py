"""The source ``cifar100``: 60,000 photographs of a hundred classes (Krizhevsky 2009)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from clipmend.methods.sources.photographs import Photographs


@dataclass(frozen=True)
class CIFAR100(Photographs):
    """CIFAR-100: 500 training photographs and 100 for ``test`` of each of a hundred classes."""

    # As torchvision.datasets.CIFAR100 has them; settings are read without importing it.
    url: str = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
    md5: str = "eb9058c3a382ffc7106e4002c42a8d85"

    FILES: ClassVar[tuple[Sequence[str], Sequence[str], str]] = (("train",), ("test",), "meta")
    SYNONYMS: ClassVar[Mapping[str, Sequence[str]]] = {
        "aquarium fish": ("goldfish",),
        "baby": ("infant",),
        "bed": ("bunk",),
        "bee": ("bumblebee",),
        "beetle": ("bug",),
        "bicycle": ("bike",),
        "bowl": ("dish",),
        "boy": ("lad",),
        "bus": ("coach",),
        "butterfly": ("moth",),
        "can": ("tin",),
        "cattle": ("cow",),
        "chair": ("seat",),
        "chimpanzee": ("chimp", "ape"),
        "couch": ("sofa",),
        "cup": ("mug",),
        "forest": ("woodland",),
        "girl": ("lass",),
        "hamster": ("pet hamster",),
        "house": ("home",),
        "kangaroo": ("wallaby",),
        "lamp": ("light",),
        "lawn mower": ("mower",),
        "leopard": ("big cat",),
        "man": ("gentleman",),
        "motorcycle": ("motorbike",),
        "mouse": ("little mouse",),
        "mushroom": ("toadstool",),
        "pickup truck": ("pickup",),
        "plain": ("grassland",),
        "plate": ("saucer",),
        "poppy": ("red poppy",),
        "rabbit": ("bunny",),
        "ray": ("stingray",),
        "road": ("street",),
        "sea": ("ocean",),
        "snake": ("serpent",),
        "streetcar": ("tram",),
        "sweet pepper": ("bell pepper",),
        "table": ("desk",),
        "telephone": ("phone",),
        "television": ("tv",),
        "turtle": ("tortoise",),
        "wardrobe": ("closet",),
        "whale": ("humpback",),
        "woman": ("lady",),
    }
    PLACES: ClassVar[Mapping[str, Sequence[str]]] = {
        "aquatic mammals": ("in the water", "at the surface"),
        "fish": ("in an aquarium", "under water"),
        "flowers": ("in the garden", "in a vase"),
        "food containers": ("on the table", "on a shelf"),
        "fruit and vegetables": ("in a basket", "at the market"),
        "household electrical devices": ("on the desk", "at home"),
        "household furniture": ("in the living room", "by the window"),
        "insects": ("on a leaf", "on a flower"),
        "large carnivores": ("in the wild", "at the zoo"),
        "large man-made outdoor things": ("at dusk", "in the distance"),
        "large natural outdoor scenes": ("at sunset", "under a blue sky"),
        "large omnivores and herbivores": ("in the wild", "at the zoo"),
        "medium mammals": ("at night", "in the woods"),
        "non-insect invertebrates": ("on the ground", "on a stone"),
        "people": ("in the park", "looking at the camera"),
        "reptiles": ("in the sun", "on a rock"),
        "small mammals": ("in the grass", "in a cage"),
        "trees": ("in a field", "in autumn"),
        "vehicles 1": ("on the road", "at the station"),
        "vehicles 2": ("on the road", "in a yard"),
    }
