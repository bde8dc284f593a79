"""A CLIP model: built, loaded and saved in the format of open_clip, and fast to train."""

import copy
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import torch
from jaxtyping import Float, Int, Shaped
from safetensors.torch import save_file
from torch import Tensor, nn

from clipmend.data.seeds import seed_of
from clipmend.data.streaming import Images
from clipmend.errors import ArtifactError, ModelError
from clipmend.model.architecture import model_config, net_of, read_json
from clipmend.model.encoding import Precision, allow_empty, in_chunks, short_texts
from clipmend.model.openclip import (
    create_pretrained,
    needs_other_activation,
    open_clip,
    tokenizer_of,
)
from clipmend.model.parallel import ALONE
from clipmend.model.visual_prompts import VISUAL_PROMPTS, add_prompts
from clipmend.model.weights import load_weights

log = logging.getLogger(__name__)

WEIGHTS = "model.safetensors"
CONFIG = "open_clip_config.json"  # the name that open_clip's ``local-dir:`` looks for
_TEXTS = 8192  # tokenized at once: token lists of Python take far more memory than a tensor
_LOGIT_SCALE_MAX = 4.6052  # log(100), as CLIP


class Clip(nn.Module):
    """A dual encoder with its tokenizer and its pixel statistics.

    Args:
        net: an open_clip model whose outputs are embeddings.
        config: ``{"model_cfg": ..., "preprocess_cfg": ...}``, as open_clip writes it; with visual
            prompts also ``"visual_prompts": {"tokens": ..., "first_layer": ...}``.

    Attributes:
        ranks: the processes that train the model together.
        precision: precision of training; ``auto``: bfloat16 on a GPU, float32 on a CPU.
        chunk: number of samples encoded at once in training; None: the whole batch.
    """

    def __init__(self, net: nn.Module, config: dict[str, Any]) -> None:
        super().__init__()
        # Convolutions are faster in this layout.
        self.net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.config = config
        context_length = int(config["model_cfg"]["text_cfg"].get("context_length", 77))
        self.tokenizer = tokenizer_of(context_length)
        self.ranks = ALONE
        self.precision: Precision = "auto"
        self.chunk: int | None = None
        self._kept_ids: Tensor | None = None  # ids, in the full vocabulary, of the rows kept
        self._full_table: Tensor | None = None
        # Not persistent: the weights must load in plain open_clip, which has no such buffers.
        self._mean = nn.Buffer(_pixel_statistic(config, "mean"), persistent=False)
        self._std = nn.Buffer(_pixel_statistic(config, "std"), persistent=False)

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self.parameters()).device

    @property
    def image_size(self) -> int:
        """Side of the input images of the image tower, in pixels."""
        return int(self.config["model_cfg"]["vision_cfg"]["image_size"])

    @property
    def embed_dim(self) -> int:
        """Number of dimensions of the embeddings."""
        return int(self.config["model_cfg"]["embed_dim"])

    def logit_scale(self) -> Float[Tensor, ""]:
        """Return the factor of cosines in the logits, at most 100."""
        # Clamped in use, not in place: the parameter keeps its gradient.
        return cast("Tensor", self.net.logit_scale).clamp(0.0, _LOGIT_SCALE_MAX).exp()

    def logit_bias(self) -> Float[Tensor, ""]:
        """Return the term added to scaled cosines; 0 for a model without one."""
        bias = getattr(self.net, "logit_bias", None)
        return torch.zeros((), device=self.device) if bias is None else cast("Tensor", bias)

    def encode_image(
        self, images: Shaped[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch dim"]:
        """Return L2-normalized embeddings of 8-bit images, or of float images in [0, 1]."""
        return self._encoded(images, self._images, tower=0)

    def encode_text(self, tokens: Int[Tensor, "batch context"]) -> Float[Tensor, "batch dim"]:
        """Return L2-normalized embeddings of token rows made by ``tokenize``."""
        return self._encoded(tokens, self._texts, tower=1)

    @property
    def _towers(self) -> tuple[nn.Module, nn.Module]:
        """The image tower, and the text tower or its transformer."""
        net = cast("Any", self.net)
        return net.visual, net.transformer if hasattr(net, "transformer") else net.text

    def _encoded(self, batch: Tensor, encode: Callable[[Tensor], Tensor], *, tower: int) -> Tensor:
        """Return the embeddings of a batch; in training, each rank encodes its share, in chunks."""
        if not self.training:
            return encode(batch)
        encode = allow_empty(encode, self._towers[tower])
        # Every rank has the same number of chunks, since synchronized batch norm waits for all.
        largest = ceil(len(batch) / self.ranks.count)
        chunks = 1 if self.chunk is None else ceil(largest / self.chunk)
        share = in_chunks(self.net, self.ranks.share(batch), encode, chunks)
        return self.ranks.gathered(share, len(batch))

    def _images(self, images: Tensor) -> Tensor:
        pixels = images.to(self.device, non_blocking=True)
        if pixels.dtype == torch.uint8:
            pixels = pixels.float() / 255
        if pixels.shape[-1] != self.image_size:
            side = (self.image_size, self.image_size)
            pixels = nn.functional.interpolate(pixels, side, mode="bicubic", antialias=True)
        normal = ((pixels - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
        return cast("Tensor", self.net.encode_image(normal, normalize=True))

    def _texts(self, tokens: Tensor) -> Tensor:
        device = self.device
        # Reading the length of GPU tokens would force a sync, so only CPU tokens are shortened.
        if tokens.device.type == "cpu":
            return short_texts(self.net, tokens, device)
        return cast("Tensor", self.net.encode_text(tokens.to(device), normalize=True))

    def checkpoint_towers(self) -> None:
        """Recompute activations inside the towers in the backward pass, which saves memory.

        open_clip supports this for transformers only; for ResNets, set ``chunk``.
        """
        cast("Any", self.net).set_grad_checkpointing(True)

    def compile_towers(self) -> None:
        """Let torch compile both towers at their first use; the names of weights do not change."""
        torch.use_deterministic_algorithms(True, warn_only=True)  # of the compiled code too
        for tower in self._towers:
            tower.compile()

    def tokenize(self, captions: Sequence[str]) -> Int[Tensor, "captions context"]:
        """Return token ids, of the pruned vocabulary if there is one.

        Raises:
            ModelError: a caption has a token that ``prune_vocabulary`` did not keep.
        """
        # Captions repeat, and the tokenizer takes a tenth of a millisecond for each.
        number = {caption: number for number, caption in enumerate(dict.fromkeys(captions))}
        distinct = list(number)
        blocks = [self._ids(distinct[at : at + _TEXTS]) for at in range(0, len(distinct), _TEXTS)]
        ids = torch.cat(blocks) if blocks else self._ids(distinct)
        return ids[[number[caption] for caption in captions]]

    def _ids(self, captions: Sequence[str]) -> Int[Tensor, "captions context"]:
        ids: Tensor = self.tokenizer(list(captions))
        if self._kept_ids is None:
            return ids.int()
        place = torch.searchsorted(self._kept_ids, ids).clamp(max=len(self._kept_ids) - 1)
        if not torch.equal(self._kept_ids[place], ids):
            raise ModelError(
                "A caption has a word outside the pruned vocabulary; prune it to every text that "
                "the model will see, or do not prune it."
            )
        return place.int()

    def prune_vocabulary(self, texts: Iterable[str]) -> "Clip":
        """Keep, in memory, only the embedding rows that ``texts`` use; return the model.

        Ids keep their order: the largest still ends a text. ``save`` writes the full table again.
        """
        # Without pruning, every optimizer step would update all 49,408 rows of the vocabulary.
        distinct = ["", *dict.fromkeys(texts)]
        used: set[int] = set()
        for at in range(0, len(distinct), _TEXTS):
            used |= set(self.tokenizer(distinct[at : at + _TEXTS]).unique().tolist())
        embedding = cast("nn.Embedding", self.net.token_embedding)
        table = embedding.weight.detach() if self._full_table is None else self._restored()
        kept = torch.tensor(sorted(used))
        small = nn.Embedding(len(kept), table.shape[1])
        small.weight = nn.Parameter(table[kept.to(table.device)].clone())
        self.net.token_embedding = small
        self._kept_ids, self._full_table = kept, table
        return self

    def _restored(self) -> Tensor:
        embedding = cast("nn.Embedding", self.net.token_embedding)
        if self._kept_ids is None or self._full_table is None:
            return embedding.weight.detach()
        table = self._full_table.clone()
        table[self._kept_ids.to(table.device)] = embedding.weight.detach().to(table.device)
        return table

    def full_state(self) -> dict[str, Tensor]:
        """Return the weights with the full vocabulary, under the names of open_clip."""
        state = {name: value.detach().cpu() for name, value in self.net.state_dict().items()}
        state["token_embedding.weight"] = self._restored().cpu()
        return {name: value.contiguous() for name, value in state.items()}

    def save(self, folder: Path, name: str = WEIGHTS) -> None:
        """Write the weights and the config.

        Plain open_clip can load the folder, unless the model has visual prompts.
        """
        save_file(self.full_state(), folder / name)
        (folder / CONFIG).write_text(
            json.dumps(self.config, indent=1, sort_keys=True) + "\n", encoding="utf-8"
        )

    def add_visual_prompts(self, *, tokens: int, first_layer: int) -> None:
        """Add learned tokens to the blocks of the image tower (see ``visual_prompts``).

        Only clipmend can load the folder that ``save`` then writes.

        Raises:
            ModelError: the image tower is not a vision transformer of open_clip, it has visual
                prompts already, or it has no block from ``first_layer`` on.
        """
        prompts = {"tokens": tokens, "first_layer": first_layer}
        add_prompts(self.net, **prompts)
        self.config = {**self.config, VISUAL_PROMPTS: prompts}

    def fold_batch_norms(self) -> None:
        """Make batch norm part of the convolution before it, in an image tower of open_clip.

        Embeddings stay the same up to rounding, in four fifths of the time. It cannot be trained.
        """
        tower = cast("Any", self.net).visual
        if not isinstance(tower, open_clip.model.ModifiedResNet):
            return
        for block in list(tower.modules()):
            layers = dict(block.named_children())
            for name, layer in layers.items():
                # `conv1` and `bn1` in the stem and the blocks, `0` and `1` in a shortcut.
                norm = "1" if name == "0" else name.replace("conv", "bn")
                if isinstance(layer, nn.Conv2d) and isinstance(layers.get(norm), nn.BatchNorm2d):
                    folded: Any = nn.utils.fuse_conv_bn_eval(layer, layers[norm])
                    setattr(block, name, folded.to(memory_format=torch.channels_last))
                    setattr(block, norm, nn.Identity())

    def frozen_copy(self) -> "Clip":
        """Return a frozen copy in evaluation mode."""
        shared = {id(self.tokenizer): self.tokenizer}  # large, and never written to
        return copy.deepcopy(self, shared).eval().requires_grad_(False)


def _pixel_statistic(config: dict[str, Any], name: str) -> Float[Tensor, "1 3 1 1"]:
    return torch.tensor(config["preprocess_cfg"][name]).view(1, 3, 1, 1)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generator of torch for the code inside, and restore it afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(seed)
        yield


def build(
    model: str,
    *,
    seed: int,
    pretrained: str | None = None,
    head: Mapping[str, float] = MappingProxyType({}),
) -> Clip:
    """Return a new model, initialized from ``seed`` or from pretrained weights.

    Args:
        pretrained: a checkpoint file (safetensors, or a pickle of tensors only), or one
            of open_clip's tags for ``model``.
        head: settings of open_clip's config that map cosines to logits: ``init_logit_scale``,
            ``init_logit_bias``. Pretrained weights must have these parameters too.

    Raises:
        ModelError: unknown model, or weights that do not fit it.
    """
    config = model_config(model)
    config["model_cfg"] = {**config["model_cfg"], **head}
    with seeded(seed_of(seed, "pretrain/init")):
        net = net_of(config)
    if pretrained is None:
        return Clip(net, config)
    if not Path(pretrained).is_file():
        settings = dict(head)
        if (open_clip.get_pretrained_cfg(model, pretrained) or {}).get("quick_gelu"):
            # The config of the plain name does not have the activation of OpenAI's weights.
            config["model_cfg"]["quick_gelu"] = settings["force_quick_gelu"] = True
        try:
            return Clip(create_pretrained(model, pretrained, **settings), config)
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelError(
                f"No weights {pretrained!r} for {model!r}: {error}; "
                "name a file or an open_clip tag."
            ) from error
    load_weights(net, Path(pretrained))
    if (name := needs_other_activation(config["model_cfg"])) is not None:
        log.warning(
            "%s is computed with GELU. If its weights descend from OpenAI's, they need QuickGELU: "
            "name the model %s, or set quick_gelu in the config.",
            pretrained,
            name,
        )
    return Clip(net, config)


def load(folder: Path, name: str = WEIGHTS) -> Clip:
    """Return the model in ``folder``, ready to evaluate.

    Raises:
        ArtifactError: a file is missing.
        ModelError: the weights do not fit the config.
    """
    for needed in (folder / name, folder / CONFIG):
        if not needed.is_file():
            raise ArtifactError(f"No model can be read from {folder}: {needed.name} is missing.")
    config = read_json(folder / CONFIG)
    with seeded(0):  # building initializes weights; it must not advance the global generator
        net = net_of(config)
    load_weights(net, folder / name)
    return Clip(net, config).eval()


@torch.no_grad()
def embed_images(
    model: Clip, images: Images, *, batch_size: int = 256
) -> Float[Tensor, "samples dim"]:
    """Return L2-normalized image embeddings in evaluation mode, on the CPU."""
    return _embedded(model, images.split(batch_size), model.encode_image)


@torch.no_grad()
def embed_texts(
    model: Clip, tokens: Int[Tensor, "samples context"], *, batch_size: int = 1024
) -> Float[Tensor, "samples dim"]:
    """Return L2-normalized text embeddings of token rows in evaluation mode, on the CPU."""
    return _embedded(model, tokens.split(batch_size), model.encode_text)


def _embedded(model: Clip, batches: Iterable[Tensor], encode: Callable[[Tensor], Tensor]) -> Tensor:
    was_training = model.training
    model.eval()
    embeds = torch.cat([encode(batch).cpu() for batch in batches])
    model.train(was_training)
    return embeds
