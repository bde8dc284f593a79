"""PUD (Progressive Unified Defense) beats defenses that filter the training pairs."""

from clipmend.engine.cell import NO_REPAIR
from clipmend.methods.table import base
from clipmend.report.claims import victims
from clipmend.report.claims.check import Claim, Outcome, Tables
from clipmend.report.claims.pud_beats_repairs import REPAIRS, beats, contest, pud_cells

CLAIM = Claim(
    id="pud_beats_filters",
    claim="PUD beats defenses that filter the training data, in ASR and in accuracy under "
    "adversarial attack",
    source="arXiv:2405.17929",
    paper="Classifiers on CIFAR-10, GTSRB, ten classes of ImageNet; numbers not available.",
    scope="The other defenses are repairs in the grid that need the training pairs (abl, ubt and "
    "others), and objectives that filter while they train (roclip, safeclip). The objectives "
    "choose their filter before there is a victim. They are compared with pud on the mmcl victim "
    "of the same poison and seed.",
    columns="cells.csv attack_success_rate, cells.csv robust_accuracy_eps<k>, cells.csv needs",
    comparison="As under pud_beats_repairs, against the repairs on all of these victims and "
    "against the objectives on the mmcl victims. If both were measured, both must hold",
)


def check(tables: Tables) -> Outcome:
    """Check PUD against repairs that filter, and against objectives that filter."""
    ours, cells = pud_cells(tables.cells), victims.poisoned(tables.cells)
    # An objective that defends takes the place of the repair, on the victim of `mmcl`. PUD also
    # repairs victims of other objectives, so this is a contest of its own.
    trained = cells[(cells["method"] == NO_REPAIR) & (cells["needs"] == "pretraining")]
    trained = trained.assign(method=trained["objective"], objective="mmcl")
    others = victims.other_repairs(tables.cells, "pud")
    filters = [
        base(name) not in REPAIRS and "train" in needs.split("+")
        for name, needs in zip(others["method"], others["needs"].fillna(""), strict=True)
    ]
    against_repairs = contest(ours, others.loc[filters])
    return beats(tables, against_repairs, contest(ours[ours["objective"] == "mmcl"], trained))
