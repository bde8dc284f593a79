"""A patch that is optimized against a surrogate: a clean CLIP that the attacker trains."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clipmend.data.seeds import seed_of, stream
from clipmend.methods.attacks.attack import AttackContext, TriggerTensors, named_rows
from clipmend.methods.attacks.patch import Patch, PatchTrigger
from clipmend.methods.settings import Count, ModelName, NonNegative, PatchPlace, Positive
from clipmend.model.batch_losses import multimodal
from clipmend.model.clip import Clip, build, embed_images, embed_texts
from clipmend.model.fit import Hooks, Schedule, Task, fit
from clipmend.model.optimizers import Adam

_PAIRS = 10_000  # pairs at most: to train the surrogate, and of the target to optimize towards
_BATCH = 64

Loss = Callable[[Tensor, TriggerTensors, torch.Generator], Tensor]


@dataclass(frozen=True)
class OptimizedPatch(PatchTrigger):
    """A patch in the middle of the image, optimized until a surrogate takes it for the target.

    Minimizes a cross-entropy of images x' with the patch: a caption of the target is to match
    better than the captions of the batch's images. ``image_weight`` adds a triplet loss,
    max(d(x', p) - d(x', x) + margin, 0); p is an image of the target, x the clean image. The
    surrogate is not trained further.

    Differs from the paper (arXiv:2311.12075), whose surrogate is OpenAI's CLIP. Here the attacker
    trains one on at most 10,000 of the pairs, whatever model the victim starts from. An attacker
    who has that model (``known_start``) uses it.

    Attributes:
        place: position of the patch, as in ``PatchTrigger``.
        surrogate: architecture of the surrogate, named as in ``pretrain.model``; its initial
            weights are from another seed than any victim's, unless ``known_start`` is set.
        surrogate_epochs: epochs of the surrogate's training by the multimodal contrastive loss
            (MMCL).
        known_start: whether the surrogate is the clean model that ``mmcl@from_clean`` starts from,
            as in the paper, where attacker and victim have OpenAI's. It is trained anew on all
            pairs, decoded in memory. It is that model if ``mmcl`` has these epochs, this model,
            no pretrained weights, and otherwise its defaults.
        images: number of images of other classes for the optimization; published: 10,000.
        epochs: passes over these images; published: 50.
        lr: learning rate of Adam, on pixels in [0, 1]; published: 1e-3.
        image_weight: weight of the triplet loss; 0: the patch is optimized towards captions only.
        triplet_margin: margin of the triplet loss, a Euclidean distance of embeddings.
    """

    place: PatchPlace = "middle"
    surrogate: ModelName = "scene_resnet"
    surrogate_epochs: Count = 8
    known_start: bool = False
    images: Count = 2000
    epochs: Count = 10
    lr: Positive = 0.01
    image_weight: NonNegative = 0.0
    triplet_margin: NonNegative = 1.0

    def fit_patch(self, context: AttackContext, placing: TriggerTensors) -> Patch | None:
        """Return the patch, in [0, 1].

        Raises:
            AttackError: no training pair names the target.
        """
        loss, count = patch_loss(self, context)
        generator = context.stream("patch")
        patch = torch.rand(3, self.size, self.size, generator=generator).requires_grad_(True)
        optimizer = Adam([patch], lr=self.lr)
        for _ in range(self.epochs):
            for rows in torch.randperm(count, generator=generator).split(_BATCH):
                optimizer.zero_grad()
                loss(rows, {**placing, "patch": patch.clamp(0, 1)}, generator).backward()
                optimizer.step()
        return patch.detach().clamp(0, 1)


def train_surrogate(attack: OptimizedPatch, context: AttackContext) -> Clip:
    """Return a CLIP trained on the pairs as they were before the attack, with frozen weights."""
    if attack.known_start:
        # The rows, the seed and the stream of the stage `pretrain`: the same weights come out.
        rows = torch.arange(len(context.ids))
        seed, generator = context.seed, stream(context.seed, "pretrain/fit")
    else:
        order = torch.randperm(len(context.ids), generator=context.stream("surrogate/pairs"))
        rows = order[:_PAIRS].sort().values
        seed = seed_of(context.seed, "poison/surrogate")
        generator = context.stream("surrogate/fit")
    model = build(attack.surrogate, seed=seed).to(context.device)
    # Batch size and learning rate are the defaults of `mmcl`.
    schedule = Schedule(attack.surrogate_epochs, batch_size=128, lr=2e-3)
    hooks = Hooks(work=context.work, label="surrogate")
    model.prune_vocabulary(context.captions)
    fit(model, Task(context.load(rows), multimodal, schedule), generator, hooks)
    return model.eval().requires_grad_(False)


def patch_loss(attack: OptimizedPatch, context: AttackContext) -> tuple[Loss, int]:
    """Return the loss of the images at some rows with the patch on them, and the number of rows.

    The rows are a random sample of pairs of other classes.

    Raises:
        AttackError: no training pair names the target.
    """
    named = named_rows(context)[:_PAIRS]  # first: it refuses before minutes of training
    model = train_surrogate(attack, context)
    candidates = (~context.is_target).nonzero().squeeze(1)
    order = torch.randperm(len(candidates), generator=context.stream("patch/images"))
    others = context.load(candidates[order[: attack.images]].sort().values)
    targets = context.load(named)
    # The surrogate's embeddings of everything that the patch does not change.
    captions = embed_texts(model, model.tokenize(others.captions))
    clean = embed_images(model, others.images)
    target_captions = embed_texts(model, model.tokenize(targets.captions))
    target_images = embed_images(model, targets.images)

    def loss(rows: Tensor, tensors: TriggerTensors, generator: torch.Generator) -> Tensor:
        images = others.images[rows].float() / 255
        ids = [others.ids[row] for row in rows.tolist()]
        embeds = model.encode_image(attack.apply(images, ids, tensors)).cpu()
        picks = torch.randint(len(target_captions), (len(rows),), generator=generator)
        positive = (embeds * target_captions[picks]).sum(dim=1, keepdim=True)
        cosines = torch.cat([positive, embeds @ captions[rows].T], dim=1)
        first = torch.zeros(len(rows), dtype=torch.long)  # the target's caption is column 0
        entropy = F.cross_entropy(model.logit_scale().cpu() * cosines, first)
        if not attack.image_weight:
            return entropy
        triplet = F.triplet_margin_loss(
            embeds, target_images[picks], clean[rows], margin=attack.triplet_margin
        )
        return entropy + attack.image_weight * triplet

    return loss, len(others)
