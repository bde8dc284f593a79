"""Several triggers at once, each with its target (Huang et al. 2025, arXiv:2502.01385)."""

from dataclasses import dataclass
from itertools import chain, repeat
from typing import Annotated, Literal

from clipmend.errors import AttackError
from clipmend.methods.attacks.attack import Part
from clipmend.methods.attacks.badnet import BadNet
from clipmend.methods.attacks.blended import Blended
from clipmend.methods.attacks.sig import SIG
from clipmend.methods.attacks.wanet import WaNet
from clipmend.methods.settings import Edge, PositiveFraction

_TRIGGERS = {"badnet": BadNet, "blended": Blended, "sig": SIG, "wanet": WaNet}


@dataclass(frozen=True)
class Multi:
    """Plants several other attacks, as they are by default, on different pairs.

    Attributes:
        triggers: the attacks.
        targets: of the second trigger and those after it; where there is none, `poison.target`.
        poison_rate: share of the training pairs that carry each trigger.
    """

    triggers: tuple[
        Annotated[Literal["badnet", "blended", "sig", "wanet"], Edge("poison")], ...
    ] = ("badnet", "blended", "sig")
    targets: tuple[str, ...] = ()
    poison_rate: PositiveFraction = 0.03

    def parts(self, target: str) -> tuple[Part, ...]:
        """Return the triggers, by the names of their attacks.

        Raises:
            AttackError: a trigger is named twice, or there are more targets than triggers.
        """
        if len(set(self.triggers)) < len(self.triggers) or len(self.targets) >= len(self.triggers):
            raise AttackError(
                f"`multi` has triggers {', '.join(self.triggers)} and, beside `poison.target`, "
                f"targets {', '.join(self.targets) or 'none'}; name each trigger once, and no more "
                f"than {len(self.triggers) - 1} further targets."
            )
        targets = chain([target], self.targets, repeat(target))
        return tuple(
            Part(name, _TRIGGERS[name](poison_rate=self.poison_rate), wanted)
            for name, wanted in zip(self.triggers, targets, strict=False)
        )
