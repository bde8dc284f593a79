"""What is known of a model from its config alone, without building it."""

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from clipmend.engine.grid import CONFIGS, PACKAGED, outside

PARAMETERS = {"scene_resnet": 4_595_161, "RN50": 102_007_137, "ViT-B-32": 151_277_313}
"""Numbers of parameters of models, counted on the models as they are built."""

# What changes neither the layers nor, but for tables of positions, the parameters.
_ASIDE = {"image_size", "context_length", "quick_gelu"}


@dataclass(frozen=True)
class Known:
    """A model as figures are kept of it.

    Attributes:
        name: of the model with the same layers that has figures, or its own.
        image_size: side of the images that it computes with, in pixels; None if unknown.
        parameters: None if unknown.
    """

    name: str
    image_size: int | None
    parameters: int | None


@cache
def known(model: str) -> Known:
    """Return what is known of ``pretrain.model``."""
    config = _config(model)
    if config is None:
        return Known(model, None, PARAMETERS.get(model))
    size = config["vision_cfg"].get("image_size")
    layers = _layers(config)
    same = (name for name in PARAMETERS if (other := _config(name)) and _layers(other) == layers)
    name = model if model in PARAMETERS else next(same, model)
    return Known(name, None if size is None else int(size), PARAMETERS.get(name))


def _config(model: str) -> dict[str, Any] | None:
    """Return a model's config: a file of the user's, one of ours, or one of open_clip's."""
    path = outside(model if model.endswith(".json") else f"{PACKAGED}{CONFIGS}/{model}.json")
    if not path.is_file():
        found = importlib.util.find_spec("open_clip")  # only looked up: importing it takes seconds
        root = Path(found.origin).parent if found is not None and found.origin else Path()
        path = root / "model_configs" / f"{model}.json"
    if not path.is_file():
        return None
    stated: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    config: dict[str, Any] = stated.get("model_cfg", stated)
    return config


def _layers(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _layers(value) if isinstance(value, Mapping) else value
        for name, value in config.items()
        if name not in _ASIDE
    }
