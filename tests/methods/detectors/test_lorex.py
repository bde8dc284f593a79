"""LoREx: whitening by trusted embeddings, and the direction in which poison gathers."""

import numpy as np
import pytest
import torch

from clipmend.errors import MetricError
from clipmend.methods.detectors.lorex import LoREx
from clipmend.methods.interfaces import Assets
from clipmend.model.fit import Hooks


def normal(count: int, seed: int, *spread: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, len(spread), generator=generator) * torch.tensor(spread)


def test_the_coordinates_are_those_of_full_whitening() -> None:
    trusted, train = normal(60, 0, 3.0, 1.0, 0.2, 0.1), normal(90, 1, 3.0, 1.0, 0.5, 0.1)
    ridge = 0.01
    covariance = np.cov(trusted.double().numpy().T)
    regular = covariance + ridge * np.trace(covariance) / 4 * np.eye(4)
    values, vectors = np.linalg.eig(regular)
    whiten = vectors @ np.diag(values**-0.5) @ np.linalg.inv(vectors)  # its square root, inverted
    center = trusted.double().numpy().mean(axis=0)
    white_train, white_trusted = ((e.double().numpy() - center) @ whiten for e in (train, trusted))
    _, _, axes = np.linalg.svd(white_train - white_train.mean(axis=0))
    ours = LoREx(ridge=ridge).coordinates(train, trusted)
    for computed, white in zip(ours, (white_train, white_trusted), strict=True):
        assert np.allclose(computed.numpy(), np.abs(white @ axes[0]), atol=1e-8)


def test_a_cluster_in_a_direction_of_little_trusted_variance_ranks_first() -> None:
    trusted, train = normal(500, 0, 5.0, 1.0, 0.05), normal(600, 1, 5.0, 1.0, 0.05)
    train[:30, 2] += 1.0  # a fifth of the spread of trusted images along the first axis
    of_train, of_trusted = LoREx().coordinates(train, trusted)
    assert set(of_train.argsort(descending=True)[:30].tolist()) == set(range(30))
    suspect = of_train > of_trusted.quantile(0.995)
    assert suspect[:30].all()
    assert float(suspect[30:].float().mean()) < 0.03


@pytest.mark.parametrize("few", ["train", "trusted"])
def test_a_single_image_is_refused(few: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"train": 5, "trusted": 5, few: 1}

    class Few:
        def __init__(self, count: int) -> None:
            self.images = count

    monkeypatch.setattr(
        "clipmend.methods.detectors.lorex.embed_images", lambda _, count: torch.zeros(count, 4)
    )
    assets = Assets.__new__(Assets)
    for name, count in counts.items():
        object.__setattr__(assets, name, lambda count=count: Few(count))
    object.__setattr__(assets, "model", None)
    with pytest.raises(MetricError, match=f"there are {counts['train']} and {counts['trusted']}"):
        LoREx()(assets, torch.Generator(), Hooks(label="here"))
