"""A practitioner's own model: where its weights are, what they are weights of, and loading it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import shorten
from typing import Any

from clipmend.errors import ModelError, suggestion
from clipmend.model.clip import CONFIG, Clip, build, model_config
from clipmend.model.openclip import open_clip

# The order in which plain open_clip looks into a folder, and its names.
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
_TOLD = 200  # letters of what does not fit
_ALLOWED = (
    f"allowed are a folder with {CONFIG} and weights, a file of weights with --architecture, and "
    "open_clip's NAME:TAG"
)


@dataclass(frozen=True)
class Checkpoint:
    """A trained model that has not been loaded yet.

    Attributes:
        architecture: an open_clip name, or the path of a ``.json`` config.
        weights: a file of them, or one of open_clip's tags.
    """

    architecture: str
    weights: Path | str

    def load(self) -> Clip:
        """Return the model, ready to evaluate.

        Raises:
            ModelError: the weights are of another architecture, or cannot be read.
        """
        if isinstance(self.weights, str):
            return _pretrained(self.architecture, self.weights).eval()
        return _built(lambda: build(self.architecture, seed=0, pretrained=str(self.weights))).eval()

    def fresh(self, seed: int) -> Clip:
        """Return an untrained model of the same kind."""
        return _built(lambda: build(self.architecture, seed=seed))

    def earlier(self, path: Path) -> "Checkpoint":
        """Return the same model early in its training: a file of weights, or a folder with one.

        Raises:
            ModelError: there are no weights.
        """
        if path.is_dir():
            return replace(self, weights=_weights_in(path))
        if not path.is_file():
            raise ModelError(f"--early {path} does not exist; name a file of weights or a folder.")
        return replace(self, weights=path)


def find_checkpoint(model: str, architecture: str | None) -> Checkpoint:
    """Return what ``model`` names; its config has been read, its weights have not.

    Raises:
        ModelError: it is nowhere, or there is no way to tell or to build its architecture.
    """
    path = Path(model)
    if path.is_dir():
        config = architecture or _config_in(path, f"the folder {path} has no {CONFIG}")
        found = Checkpoint(config, _weights_in(path))
    elif path.is_file():
        why = f"{path} does not say what it is weights of, and no {CONFIG} lies beside it"
        found = Checkpoint(architecture or _config_in(path.parent, why), path)
    elif ":" in model:
        found = _tagged(model, architecture)
    else:
        raise ModelError(f"The model {model} does not exist; {_ALLOWED}.")
    _check_config(found.architecture)
    return found


def _config_in(folder: Path, why: str) -> str:
    if not (folder / CONFIG).is_file():
        raise ModelError(f"{why[0].upper()}{why[1:]}; name the architecture by --architecture.")
    return str(folder / CONFIG)


def _weights_in(folder: Path) -> Path:
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    others = sorted(file for file in folder.iterdir() if file.suffix in _SUFFIXES)
    if len(others) == 1:
        return others[0]
    if others:
        names = ", ".join(file.name for file in others)
        raise ModelError(f"{folder} has several weights ({names}); name one of these files.")
    raise ModelError(
        f"{folder} has no weights; open_clip names them {_WEIGHTS[0]} or {_WEIGHTS[2]}, "
        "clipmend model.safetensors."
    )


def _tagged(model: str, architecture: str | None) -> Checkpoint:
    name, _, tag = model.partition(":")
    if architecture is not None:
        raise ModelError(f"{model} names its architecture already; leave --architecture out.")
    if name in ("hf-hub", "local-dir"):
        raise ModelError(f"{model} is not fetched here; download its folder, and name that.")
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not tags:
        raise ModelError(f"The model {model} is no file, and open_clip has no {name}; {_ALLOWED}.")
    if not open_clip.get_pretrained_cfg(name, tag):
        raise ModelError(f"open_clip has no weights {tag!r} of {name}. {suggestion(tag, tags)}")
    return Checkpoint(name, tag)


def _check_config(architecture: str) -> None:
    """Refuse what ``clipmend.model`` could not build, embed with and save again."""
    try:
        model = model_config(architecture)["model_cfg"]
        vision, text = model["vision_cfg"], model["text_cfg"]
        side = vision["image_size"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ModelError(f"{architecture} is no config of open_clip: {reason}.") from error
    strange = {"custom_text", "multimodal_cfg"} & set(model) | {
        key for key in text if key.startswith("hf_") or key == "tokenizer_kwargs"
    }
    if strange:
        raise ModelError(
            f"{architecture} cannot be used: its text tower is not CLIP's own "
            f"({', '.join(sorted(strange))}); allowed are models with CLIP's text transformer "
            "and tokenizer."
        )
    if not isinstance(side, int):
        raise ModelError(f"{architecture} cannot be used: its images are {side}, not square.")


def _pretrained(name: str, tag: str) -> Clip:
    """Return a pretrained model, with the activation and the pixel statistics of its tag."""
    stated = open_clip.get_pretrained_cfg(name, tag)
    config = model_config(name)
    quick = bool(stated.get("quick_gelu") or config["model_cfg"].get("quick_gelu"))
    if quick:
        config["model_cfg"]["quick_gelu"] = True
    for statistic in ("mean", "std"):
        config["preprocess_cfg"][statistic] = list(stated[statistic])
    try:
        net = open_clip.create_model(name, pretrained=tag, force_quick_gelu=quick)
    except (RuntimeError, ValueError, OSError) as error:
        reason = shorten(str(error), _TOLD)
        raise ModelError(f"The weights {tag!r} of {name} cannot be had: {reason}.") from error
    return Clip(net, config)


def _built(make: Callable[[], Clip]) -> Clip:
    try:
        return make()
    except ModelError as error:
        mismatch: Any = str(error.__cause__)
        if "\n" not in mismatch:
            raise
        # The first line says that something is wrong, the others what.
        head = str(error).partition(": Error(s)")[0]
        detail = shorten(" ".join(mismatch.splitlines()[1:]), _TOLD, placeholder=" …")
        raise ModelError(f"{head}: {detail}") from error
    except (TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"The config does not describe an open_clip model: {error}.") from error
