"""A model of the user: its config, its weights, and how they are loaded."""

from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import shorten

import torch

from clipmend.engine import models
from clipmend.engine.folders import is_pointer, visible
from clipmend.errors import ModelError, suggestion
from clipmend.model.architecture import model_config
from clipmend.model.clip import CONFIG, Clip, build
from clipmend.model.openclip import create_pretrained, open_clip

# The names that open_clip looks for in a folder, in its order.
_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")
_LONGEST = 200  # letters of the reason in a message
_LARGE = 10**9  # weights, 4 GB
_BROKEN = (
    *(TypeError, KeyError, AttributeError, ValueError, IndexError, RuntimeError, MemoryError),
    *(AssertionError, ArithmeticError),
)
"""What constructors raise for a config with wrong values."""
_ALLOWED = (
    f"Expected a folder with {CONFIG} and weights, a weights file with --architecture, or NAME:TAG "
    "of open_clip"
)


@dataclass(frozen=True)
class Checkpoint:
    """A trained model that is not loaded yet.

    Attributes:
        architecture: an open_clip name, or the path of a ``.json`` config.
        weights: a weights file, or a tag of open_clip.
    """

    architecture: str
    weights: Path | str

    def load(self) -> Clip:
        """Return the model, ready to evaluate.

        Raises:
            ModelError: the weights do not fit the architecture, cannot be read, or are not finite.
        """
        if isinstance(self.weights, str):
            return _pretrained(self.architecture, self.weights).eval()
        if is_pointer(self.weights):
            raise ModelError(
                f"The weights in {self.weights} cannot be read: the file is a pointer of Git LFS. "
                "Run `git lfs pull` to get it."
            )
        self._refuse_other_size(self.weights)
        model = self.fresh(seed=0, pretrained=self.weights).eval()
        state = model.net.state_dict()
        if all((value == value.round()).all() for value in state.values()):
            raise ModelError(
                f"The weights in {self.weights} cannot be used: all are whole numbers, as in a "
                "quantized model."
            )
        for name, value in state.items():
            if broken := int((~value.isfinite()).sum()):
                raise ModelError(
                    f"The weights in {self.weights} cannot be used: {name} has {broken} of "
                    f"{value.numel()} numbers that are not finite. Its training has failed."
                )
        return model

    def earlier(self, path: Path) -> "Checkpoint":
        """Return the same model with weights from early in its training: a file or a folder.

        Raises:
            ModelError: the path has no weights.
        """
        if not path.exists():
            raise ModelError(f"--early {path} does not exist; name a weights file or a folder.")
        return replace(self, weights=_weights_in(path) if path.is_dir() else _regular(path))

    def fresh(self, seed: int, pretrained: Path | None = None) -> Clip:
        """Return an untrained model of the same architecture, or one with weights of a file.

        Raises:
            ModelError: the config describes no model, or the weights do not fit it.
        """
        file = None if pretrained is None else str(pretrained)
        try:
            return build(self.architecture, seed=seed, pretrained=file)
        except _BROKEN as error:
            # A config is free JSON: open_clip fails somewhere inside a constructor.
            reason = shorten(str(error) or type(error).__name__, _LONGEST).rstrip(".")
            what = "The config" if file is None else f"{file}, read as {self.architecture},"
            raise ModelError(f"{what} does not describe an open_clip model: {reason}.") from error

    def _refuse_other_size(self, weights: Path) -> None:
        """Refuse a large model with more weights than the file has bytes, before it takes memory.

        For a small one, reading the file says more.
        """
        if "timm_model_name" in model_config(self.architecture)["model_cfg"]["vision_cfg"]:
            return  # timm computes with what it builds
        with torch.device("meta"):
            count = sum(value.numel() for value in self.fresh(seed=0).parameters())
        if count > max(weights.stat().st_size, _LARGE):
            raise ModelError(
                f"The weights in {weights} do not fit this model: it has {count:,} weights, and "
                f"the file {weights.stat().st_size:,} bytes."
            )


def find_checkpoint(model: str, architecture: str | None) -> Checkpoint:
    """Return the checkpoint that ``--model`` names. Its config is read, its weights are not.

    Raises:
        ModelError: the model does not exist, or its architecture is unknown or not supported.
    """
    path = Path(model)
    if path.exists():
        config = (path if path.is_dir() else path.parent) / CONFIG
        if not (architecture or config.is_file()):
            why = f"The architecture of {path} is unknown, since its folder has no {CONFIG}"
            why = f"The folder {path} has no {CONFIG}" if path.is_dir() else why
            raise ModelError(f"{why}; name the architecture with --architecture.")
        weights = _weights_in(path) if path.is_dir() else _regular(path)
        checkpoint = Checkpoint(architecture or str(config), weights)
    elif ":" in model:
        checkpoint = _tagged(model, architecture)
    else:
        raise ModelError(f"The model {model} does not exist. {_ALLOWED}.")
    _check_config(checkpoint.architecture)
    return checkpoint


def _regular(path: Path) -> Path:
    if not path.is_file():  # a pipe would be waited for
        raise ModelError(f"{path} is not a file with content, but a pipe, a socket or a device.")
    return path


def _weights_in(folder: Path) -> Path:
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    others = [file for file in visible(folder) if file.suffix in _SUFFIXES and file.is_file()]
    if not others:
        raise ModelError(
            f"{folder} has no weights. open_clip names them {_WEIGHTS[0]} or {_WEIGHTS[2]}, "
            "clipmend model.safetensors."
        )
    if len(others) > 1:
        names = ", ".join(file.name for file in others)
        raise ModelError(f"{folder} has several weights files ({names}); name one of them.")
    return others[0]


def _tagged(model: str, architecture: str | None) -> Checkpoint:
    name, _, tag = model.partition(":")
    if architecture is not None:
        raise ModelError(f"{model} already specifies an architecture; remove --architecture.")
    if name in ("hf-hub", "local-dir"):
        raise ModelError(f"{model} is not supported; download the folder and name it.")
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not tags:
        raise ModelError(
            f"The model {model} is not a file, and open_clip has no model {name}. {_ALLOWED}."
        )
    if not open_clip.get_pretrained_cfg(name, tag):
        raise ModelError(f"open_clip has no weights {tag!r} of {name}. {suggestion(tag, tags)}")
    return Checkpoint(name, tag)


def _check_config(architecture: str) -> None:
    """Refuse an architecture that ``model/`` could not build, embed with and save again."""
    try:
        config = model_config(architecture)
        models.check(architecture, config["model_cfg"], config["preprocess_cfg"])
    except (RecursionError, TypeError, OverflowError, ValueError, AttributeError) as error:
        raise ModelError(f"{architecture} is not a config of open_clip: {error}.") from error


def _pretrained(name: str, tag: str) -> Clip:
    """Return a pretrained model, with the activation and the pixel statistics of its tag."""
    tag_config = open_clip.get_pretrained_cfg(name, tag)
    config = model_config(name)
    # OpenAI's weights need QuickGELU, which the config of the plain name does not have.
    quick = bool(tag_config.get("quick_gelu") or config["model_cfg"].get("quick_gelu"))
    config["model_cfg"] |= {"quick_gelu": True} if quick else {}
    config["preprocess_cfg"] |= {name: list(tag_config[name]) for name in ("mean", "std")}
    try:
        net = create_pretrained(name, tag, force_quick_gelu=quick)
    except (RuntimeError, ValueError, OSError) as error:
        reason = shorten(str(error), _LONGEST)
        raise ModelError(f"The weights {tag!r} of {name} are not available: {reason}.") from error
    return Clip(net, config)
