"""A linear probe: what a linear classifier reads from frozen image embeddings."""

import torch
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from clipmend.metrics.rates import Measured, of_other_classes, rate

_STEPS = 1000  # of L-BFGS; a probe of 2,000 images converges in about 100


def linear_probe(
    seen: tuple[Float[Tensor, "seen dim"], Int[Tensor, " seen"]],
    clean: Float[Tensor, "samples dim"],
    triggered: Float[Tensor, "samples dim"],
    label: Int[Tensor, " samples"],
    *,
    target_label: int,
    confidence: float = 0.95,
) -> dict[str, Measured]:
    """Return accuracy and attack success rate (ASR) of a logistic regression on embeddings.

    Args:
        seen: embeddings and labels that the probe is trained on; at least two classes.
        clean: embeddings of the test images.
        triggered: embeddings of the same images with the trigger.
        label: their true classes.

    Raises:
        MetricError: every image belongs to the target class.
    """
    embeds, classes = seen
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_STEPS))
    probe.fit(embeds.double().numpy(), classes.numpy())
    on_clean, on_triggered = (
        torch.from_numpy(probe.predict(each.double().numpy())) for each in (clean, triggered)
    )
    attacked = of_other_classes(label, target_label)
    right = int((on_clean == label).sum())
    success = int((on_triggered[attacked] == target_label).sum())
    what = "a logistic regression on frozen image embeddings, trained on labeled val"
    return {
        "linear_probe_accuracy": Measured(
            rate(right, len(label), confidence=confidence),
            f"top-1 accuracy on untouched test images of {what}",
        ),
        "linear_probe_attack_success_rate": Measured(
            rate(success, int(attacked.sum()), confidence=confidence),
            "share of triggered test images, of true classes other than the target, that are "
            f"predicted as the target by {what}",
        ),
    }
