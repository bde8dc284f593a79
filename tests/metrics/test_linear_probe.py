"""The linear probe, on embeddings whose classes are known."""

import torch

from clipmend.metrics.linear_probe import linear_probe


def test_a_trigger_that_moves_an_embedding_to_the_target_succeeds_as_often_as_it_moves() -> None:
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(90) % 3

    def embeds(label):
        return torch.eye(3)[label] + 0.05 * torch.randn(len(label), 3, generator=generator)

    moved = label.clone()
    moved[torch.arange(90) < 45] = 0  # the target; 30 of these 45 are of another class
    measured = linear_probe(
        (embeds(label), label), embeds(label), embeds(moved), label, target_label=0
    )
    accuracy, success = measured.values()
    assert (accuracy.number.value, accuracy.number.n) == (1.0, 90)
    assert (success.number.value, success.number.n) == (0.5, 60)
