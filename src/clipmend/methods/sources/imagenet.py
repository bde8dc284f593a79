"""ImageNet's class names and prompts as open_clip has them, and its WordNet ids."""

from clipmend.methods.sources.labeled import Names


def imagenet_names() -> Names:
    """Return the 1,000 classes under their names, of which 998 differ.

    Two names stand twice in open_clip's list (``missile``, ``sunglasses``). A classifier cannot
    tell classes of one name apart: each such pair is one class here.
    """
    from clipmend.model.openclip import open_clip  # seconds, which other class names need not cost
    from timm.data.imagenet_info import ImageNetInfo  # isort: skip  (fails before open_clip)

    by_number = tuple(open_clip.IMAGENET_CLASSNAMES)
    aliases = dict(zip(ImageNetInfo().label_names(), by_number, strict=True))
    return Names(tuple(dict.fromkeys(by_number)), by_number, aliases)


def imagenet_prompts() -> tuple[str, ...]:
    """Return the 80 templates of CLIP (Radford et al. 2021, arXiv:2103.00020)."""
    from clipmend.model.openclip import open_clip

    return tuple(template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES)
