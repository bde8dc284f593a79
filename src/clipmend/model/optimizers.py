"""Adam and AdamW of torch, without the second that their first step takes to import the compiler.

torch wraps methods of its optimizers for ``torch.compile``. These wrappers import the compiler in
every process, and do nothing where no optimizer is compiled.
"""

from inspect import unwrap
from typing import Any

import torch
from torch.optim import Optimizer


class _Uncompiled(Optimizer):
    """Methods of torch's optimizers without the wrappers for the compiler."""

    add_param_group = unwrap(Optimizer.add_param_group)
    zero_grad = unwrap(Optimizer.zero_grad)
    state_dict = unwrap(Optimizer.state_dict)
    load_state_dict = unwrap(Optimizer.load_state_dict)
    # The wrapper of this one also turns gradients off.
    step = torch.no_grad()(unwrap(torch.optim.Adam.step))


class Adam(_Uncompiled, torch.optim.Adam):
    """Adam as ``torch.optim.Adam`` computes it with ``fused``: the same bytes on each x86-64."""

    def __init__(self, parameters: Any, **settings: Any) -> None:
        # The other implementations use MKL's square root, which differs between processors.
        super().__init__(parameters, fused=True, **settings)


class AdamW(_Uncompiled, torch.optim.AdamW):
    """AdamW as ``torch.optim.AdamW`` computes it with ``fused``, for the same reason."""

    def __init__(self, parameters: Any, **settings: Any) -> None:
        super().__init__(parameters, fused=True, **settings)
