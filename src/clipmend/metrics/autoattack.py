"""Robust accuracy under AutoAttack's standard ensemble (Croce & Hein 2020, arXiv:2003.01690)."""

from types import ModuleType

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from clipmend.errors import MetricError
from clipmend.metrics.adversarial import frozen
from clipmend.metrics.rates import Measured, rate
from clipmend.metrics.robustness import Attacked
from clipmend.model.clip import Clip, seeded

_BATCH = 100
_LEAST_CLASSES = 4  # the loss of APGD-T needs the third-highest wrong class


def ensemble_robustness(
    model: Clip, attacked: Attacked, epsilon: float, *, confidence: float, seed: int
) -> dict[str, Measured]:
    """Return the zero-shot accuracy under the ensemble, with logits at CLIP's scale of 100.

    An image counts as correct if APGD-CE, APGD-T, FAB-T and Square all fail on it. The targeted
    attacks try at most nine targets, as in the standard version.

    Args:
        epsilon: the largest change of any pixel, for images in [0, 1].

    Raises:
        MetricError: the package of the ensemble is missing, or the corpus has under 4 classes.
    """
    package = _package()
    others = len(attacked.classes) - 1
    if others + 1 < _LEAST_CLASSES:
        raise MetricError(
            f"AutoAttack's standard ensemble needs {_LEAST_CLASSES} classes, not {others + 1}; "
            "set `evaluate.adversarial.ensemble` to false."
        )
    images = (attacked.images.float() / 255).to(model.device)
    label = attacked.label.to(model.device)
    with frozen(model), seeded(seed):
        ensemble = package.AutoAttack(
            _ZeroShot(model, attacked.classes), eps=epsilon, seed=seed, device=model.device
        )
        for targeted in (ensemble.apgd_targeted, ensemble.fab):
            targeted.n_target_classes = min(targeted.n_target_classes, others)
        _, predicted = ensemble.run_standard_evaluation(images, label, batch_size=_BATCH)
    right = int((predicted == label).sum())
    meaning = (
        "zero-shot top-1 accuracy under AutoAttack's standard ensemble (APGD-CE, APGD-T, FAB-T, "
        f"Square), each pixel within {round(255 * epsilon)}/255, {attacked.where}"
    )
    left = rate(right, len(label), confidence=confidence)
    return {"robust_accuracy_ensemble": Measured(left, meaning)}


class _ZeroShot(nn.Module):
    """The zero-shot classifier as a module from images to logits."""

    def __init__(self, model: Clip, classes: Float[Tensor, "classes dim"]) -> None:
        super().__init__()
        self._model = model
        self._classes = classes.to(model.device)

    def forward(self, images: Shaped[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch n"]:
        """Return the logits."""
        return 100 * self._model.encode_image(images) @ self._classes.T


def _package() -> ModuleType:
    try:
        import pyautoattack
    except ImportError as error:
        raise MetricError(
            "`evaluate.adversarial.ensemble` needs AutoAttack, which is not installed: "
            "pip install 'clipmend[robustness]'."
        ) from error
    package: ModuleType = pyautoattack
    return package
