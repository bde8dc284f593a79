"""Adversarial examples resemble triggered images more in a poisoned model than in a clean one."""

from clipmend.engine.cell import NO_REPAIR
from clipmend.report.cells import PAIR, at_epsilons
from clipmend.report.claims import victims
from clipmend.report.claims.check import Claim, Outcome, Tables, tested, untested
from clipmend.report.order import is_poisoned

_METRICS = (
    "adversarial_trigger_cosine",
    "adversarial_trigger_cosine_sideways",
    "adversarial_target_rate",
)
CLAIM = Claim(
    id="adversarial_resembles_trigger",
    claim="Adversarial examples of a poisoned model resemble its triggered images",
    source="arXiv:2405.17929, arXiv:2202.06312",
    paper="Classifiers on CIFAR-10, GTSRB and others, 10 % poison; numbers not available.",
    scope="CLIP takes the place of a classifier, and its zero-shot classifier is attacked. A "
    "trigger may resemble adversarial examples by itself, so the resemblance in an unpoisoned "
    "model under the same trigger is subtracted.",
    columns=", ".join(f"cells.csv {name}_eps<k>" for name in _METRICS),
    comparison="Undefended backdoored victims are compared with unpoisoned victims under the same "
    "trigger, objective and seed. Every difference must be above 0, at every epsilon measured",
    thresholds={"backdoored": 0.5},
)


def check(tables: Tables) -> Outcome:
    """Check every metric at every epsilon, poisoned minus unpoisoned."""
    cells = tables.cells
    columns = [column for name in _METRICS for column in at_epsilons(cells, name).values()]
    poisoned = victims.backdoored(cells, CLAIM.thresholds["backdoored"])[[*PAIR, *columns]]
    clean = cells[(cells["method"] == NO_REPAIR) & ~cells["attack"].map(is_poisoned)]
    same = [name for name in PAIR if name != "attack"]
    both = poisoned.merge(clean[[*same, *columns]], on=same, suffixes=("", "_clean"))
    both = victims.by_victim(both)
    # Some victims may lack an epsilon; each column is compared on those that have it.
    changes = {column: (both[column] - both[f"{column}_clean"]).dropna() for column in columns}
    numbers = {
        column: tables.number(f"{column}, poisoned less unpoisoned", change)
        for column, change in changes.items()
        if len(change)
    }
    if not numbers:
        return untested(
            "No backdoored victim and unpoisoned victim of one objective and seed were both "
            "attacked with adversarial examples."
        )
    listed = ", ".join(f"{column} {n.text('+.3f', 1)}" for column, n in numbers.items())
    sample = next(iter(numbers.values())).sample("pairs of victims")
    return tested(
        f"Poisoned minus unpoisoned: {listed} ({sample}).",
        numbers.values(),
        holds=all(number.low > 0 for number in numbers.values()),
    )
