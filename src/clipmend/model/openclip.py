"""The one place where open_clip is imported, without the libraries that it needs for little."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from functools import cache, lru_cache
from types import ModuleType
from typing import Any

import torch
import torch.utils.deterministic
from torch import nn

from clipmend.model import torchvision_operators as torchvision_operators  # before torchvision

_CAPTIONS = 8192  # captions whose tokens are kept: a few megabytes


@contextmanager
def light_imports() -> Iterator[None]:
    """Keep out of an import what takes longer to load than torch itself, and is not called.

    open_clip treats timm and the client of the Hugging Face hub as optional, and clipmend publishes
    no model. torchvision imports its models and data sets, which open_clip does not use. It imports
    the compiler of torch to ask whether a device supports it, and to keep a function out of what is
    compiled. It imports the exporter to ONNX (Open Neural Network Exchange) only to register
    operators for boxes.
    """
    compiler, exporter = "torch._dynamo.utils", "torchvision.ops._register_onnx_ops"
    publisher = "open_clip.push_to_hf_hub"
    absent: dict[str, Any] = {
        "timm": None,
        "huggingface_hub": None,
        "torchvision.datasets": _module("torchvision.datasets"),
        "torchvision.models": _module("torchvision.models"),
        "torch._dynamo": _module("torch._dynamo", disable=lambda function, *_, **__: function),
        compiler: _module(compiler, is_compile_supported=lambda _device: False),
        exporter: _module(exporter, _register_custom_op=lambda: None),
        publisher: _module(publisher, push_to_hf_hub=None, push_pretrained_to_hf_hub=None),
    }
    replaced = {name: module for name, module in absent.items() if name not in sys.modules}
    sys.modules.update(replaced)
    try:
        yield
    finally:
        for name in replaced:
            del sys.modules[name]


def _module(name: str, **members: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(members)
    return module


with light_imports():
    import open_clip


def load_timm() -> None:
    """Import timm for open_clip, which builds some image towers with it."""
    if open_clip.timm_model.timm is None:
        importlib.reload(open_clip.timm_model)


def create_pretrained(model: str, tag: str, **settings: Any) -> nn.Module:
    """Return the open_clip model ``model`` with the weights ``tag``, downloaded if they must be.

    Raises:
        RuntimeError, ValueError, OSError: open_clip does not have them, or cannot get them.
    """
    if not open_clip.pretrained._has_hf_hub:
        importlib.reload(open_clip.pretrained)  # its functions stay, and see the client from now on
    net: nn.Module = open_clip.create_model(model, pretrained=tag, **settings)
    return net


@cache
def tokenizer_of(context_length: int) -> Any:
    """Return the tokenizer of CLIP; models share it, because it takes longer to build than one."""
    tokenizer = copy(open_clip.tokenizer._tokenizer)  # open_clip builds it when it is imported
    tokenizer.context_length = context_length
    # A job tokenizes the same captions for each model and each loop.
    tokenizer.encode = lru_cache(_CAPTIONS)(tokenizer.encode)
    return tokenizer


def needs_other_activation(model_cfg: dict[str, Any]) -> str | None:
    """Return the name of the model that OpenAI trained in this shape, with another activation.

    OpenAI's models have QuickGELU, and the configs of the plain names have GELU. The weights fit
    both, and give other embeddings. None if the config has QuickGELU, or another shape.
    """
    if model_cfg.get("quick_gelu"):
        return None
    for name in open_clip.list_models():
        plain, is_quick, _ = name.partition("-quickgelu")
        if is_quick and open_clip.get_pretrained_cfg(plain, "openai"):
            theirs = open_clip.get_model_config(name)
            if all(theirs[key] == model_cfg.get(key) for key in theirs if key != "quick_gelu"):
                return str(name)
    return None


# The public function also imports the compiler, for a second; `compile_towers` calls it.
torch._C._set_deterministic_algorithms(True, warn_only=True)
# Filling fresh memory with NaN, to reveal reads of it, takes a twelfth of every step.
torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
torch.backends.cudnn.benchmark = False

__all__ = [
    "create_pretrained",
    "light_imports",
    "load_timm",
    "needs_other_activation",
    "open_clip",
    "tokenizer_of",
]
