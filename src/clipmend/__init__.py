"""Poison a CLIP, then mend it: one graph from image-caption pairs to a table of defenses.

``from clipmend import suspects, mend`` gives the two commands for a model of one's own.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipmend.tools.standalone.python import Outcome as Outcome
    from clipmend.tools.standalone.python import mend as mend
    from clipmend.tools.standalone.python import suspects as suspects


def __getattr__(name: str) -> Any:
    # On first use, because torch takes seconds to import.
    if name not in ("Outcome", "mend", "suspects"):
        raise AttributeError(f"module 'clipmend' has no attribute {name!r}")
    from importlib import import_module

    # Jobs import only parts of open_clip and torchvision. The caller's code may need all of them.
    import_module("clipmend.model.torchvision_operators")
    import_module("open_clip")
    return getattr(import_module("clipmend.tools.standalone.python"), name)
