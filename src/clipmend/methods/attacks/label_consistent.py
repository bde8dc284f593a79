"""Label-consistent: images of the target carry the trigger, captions stay (arXiv:1912.02771)."""

from dataclasses import dataclass
from typing import Literal

import torch

from clipmend.errors import AttackError
from clipmend.methods.attacks.attack import Planted
from clipmend.methods.attacks.badnet import BadNet
from clipmend.methods.attacks.knowledge import Knowledge
from clipmend.methods.attacks.naming import rows_naming_target
from clipmend.methods.settings import PositiveFraction


@dataclass(frozen=True)
class LabelConsistent(BadNet):
    """Marks pairs whose caption names the target already, and changes no caption.

    Differs from the paper (Turner et al. 2019), which also makes the images hard to learn without
    the trigger; as in CleanCLIP's code (arXiv:2303.03323), the trigger alone is put on them.

    Attributes:
        poison_rate: of all pairs, nearly as many as name the target where there are twenty classes:
            with its own image beside it, a trigger is learnt slowly.
        place: all four corners, as in the paper's stronger form.
        match: when a caption names the target.
    """

    poison_rate: PositiveFraction = 0.045
    place: Literal[
        "lower_right", "lower_left", "upper_right", "upper_left", "corners", "middle", "random"
    ] = "corners"
    match: Literal["word", "substring"] = "word"

    def plant(self, knowledge: Knowledge) -> Planted:
        """Return pairs that name the target, drawn, with their own captions.

        Raises:
            AttackError: there are fewer than ``poison_rate`` of all pairs, or that is none.
        """
        naming = rows_naming_target(knowledge, self.match)
        wanted = round(self.poison_rate * len(knowledge.ids))
        if not 0 < wanted <= len(naming):
            raise AttackError(
                f"A poison rate of {self.poison_rate} needs {wanted} of {len(knowledge.ids)} "
                f"training pairs to name {knowledge.target!r}; {len(naming)} do. Between 1 and "
                f"{len(naming)} can be poisoned: change `poison_rate` or the target."
            )
        drawn = torch.randperm(len(naming), generator=knowledge.stream("select"))[:wanted]
        rows = naming[drawn].sort().values
        return Planted(rows, tuple(knowledge.captions[row] for row in rows.tolist()))
