"""SafeCLIP's loss: pairs in safe batches are contrasted across modalities, others within them."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from clipmend.data.streaming import Images
from clipmend.methods.objectives.bank import Bank
from clipmend.model.clip import Clip
from clipmend.model.fit import Batch
from clipmend.model.losses import one_way_loss
from clipmend.model.views import Policy, autoaugment


class Divided(nn.Module):
    """The CLIP loss on batches of safe pairs, SSL on batches of risky ones (arXiv:2310.05862).

    An epoch is the risky pairs first and then the safe ones, as in the published code. The loop's
    own batches only count the steps: safe pairs are contrasted with safe pairs, and there would be
    a handful of them in each of the loop's.

    Image views are drawn for every step, the two views of each caption once, before the loop.

    Attributes:
        text_views: two token rows for each pair.
        first_share: the share of safe pairs at the first division, from which it grows.
    """

    first_share: Tensor

    def __init__(
        self,
        images: Images,
        text_views: tuple[Int[Tensor, "samples context"], Int[Tensor, "samples context"]],
        banks: tuple[Bank, Bank],
        policy: Policy,
    ) -> None:
        super().__init__()
        self.images, self.text_views, self.policy = images, text_views, policy
        self.of_images, self.of_texts = banks
        self.register_buffer("first_share", torch.zeros((), dtype=torch.float64))
        self._steps: list[tuple[Tensor, bool]] = []

    def divide(self, safe: Int[Tensor, " safe"], steps: int, generator: torch.Generator) -> None:
        """Plan an epoch of as many steps as the loop will make, in batches of about one size."""
        is_safe = torch.zeros(len(self.images), dtype=torch.bool)
        is_safe[safe] = True
        sides = [torch.nonzero(~is_safe).flatten(), torch.nonzero(is_safe).flatten()]
        of_safe = round(steps * len(sides[1]) / len(self.images))
        if all(len(side) > 1 for side in sides):
            of_safe = min(max(of_safe, 1), steps - 1)
        self._steps = []
        for rows, count, kind in zip(sides, (steps - of_safe, of_safe), (False, True), strict=True):
            order = rows[torch.randperm(len(rows), generator=generator)]
            if count:
                self._steps += [(part, kind) for part in order.tensor_split(count)]
        self._steps.reverse()  # so that the next step is the last of the list

    def get_extra_state(self) -> list[tuple[Tensor, bool]]:
        """Return the steps that were planned and not made: a killed epoch goes on with them."""
        return self._steps

    def set_extra_state(self, state: list[tuple[Tensor, bool]]) -> None:
        """Take back what ``get_extra_state`` returned."""
        self._steps = state

    def forward(
        self,
        model: Clip,
        batch: Batch,  # noqa: ARG002
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        """Return the loss of the next batch that was planned."""
        rows, is_safe = self._steps.pop()
        images = self.images[rows]
        views = [autoaugment(images, generator, policy=self.policy) for _ in range(2)]
        texts = [view[rows] for view in self.text_views]
        return (self._across if is_safe else self._within)(model, views, texts)

    def _across(self, model: Clip, views: list[Tensor], texts: list[Tensor]) -> Float[Tensor, ""]:
        """Return the CLIP loss, each direction between other views."""
        first_image, second_image = model.encode_image(torch.cat(views)).chunk(2)
        first_text, second_text = model.encode_text(torch.cat(texts)).chunk(2)
        scale = model.logit_scale()
        to_text = one_way_loss(first_image, second_text, scale)
        return (to_text + one_way_loss(first_text, second_image, scale)) / 2

    def _within(self, model: Clip, views: list[Tensor], texts: list[Tensor]) -> Float[Tensor, ""]:
        """Return SSL: a view is to be found by what the bank holds nearest to the other view."""
        image = _within_one(self.of_images, model.encode_image, views, model.logit_scale())
        text = _within_one(self.of_texts, model.encode_text, texts, model.logit_scale())
        return (image + text) / 2


def _within_one(
    bank: Bank, encode: Callable[[Tensor], Tensor], views: list[Tensor], scale: Tensor
) -> Float[Tensor, ""]:
    with torch.no_grad():
        first = encode(views[0])
    positives = bank.nearest(first, otherwise=first)
    bank.append(first)
    return one_way_loss(encode(views[1]), positives, scale)
