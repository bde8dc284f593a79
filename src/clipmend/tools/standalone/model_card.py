"""The card of a repaired model: Markdown with YAML front matter, the form of Hugging Face's hub."""

from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

import yaml

from clipmend.methods import table
from clipmend.methods.papers import PAPERS
from clipmend.model.visual_prompts import VISUAL_PROMPTS
from clipmend.report.markup import in_code, in_markdown
from clipmend.tools.standalone.inspection import Inspection
from clipmend.tools.standalone.options import Options
from clipmend.tools.standalone.settings import Chosen

_FRONT = {
    "library_name": "open_clip",
    "pipeline_tag": "zero-shot-image-classification",
    "tags": ["clip", "backdoor-repair", "clipmend"],
}
_NOT_TESTED = (
    "Accuracy on any task. Measure the model on your own task before and after.",
    "The attack success rate: the true trigger, if there is one, is unknown to the repair.",
    "Backdoors of other kinds: with further targets, with too few pairs, or with a trigger that "
    "has no fixed pixels.",
    "Whether the backdoor comes back when the model is trained further.",
    "The pairs that were not read, and any bias or error that the model had before.",
)
_LOADING = (
    "```python",
    "import open_clip",
    "",
    'model = open_clip.create_model("local-dir:PATH_OF_THIS_FOLDER").eval()',
    "```",
)
_LOADING_PROMPTED = (
    "It has visual prompts, which plain open_clip cannot load; clipmend can:",
    "",
    "```python",
    "from pathlib import Path",
    "from clipmend.model.clip import load",
    "",
    'model = load(Path("PATH_OF_THIS_FOLDER"))',
    "```",
)
_PAIRS = "pairs that the model was trained on"


def model_card(
    finding: Mapping[str, Any],
    says: str,
    options: Options,
    chosen: Chosen,
    inspection: Inspection,
) -> str:
    """Return the card: what was found, what was done, and what was not tested.

    Args:
        finding: the content of ``finding.json``; empty if the repair makes no finding.
        says: what was done, for a repair without a finding.
    """
    is_changed = finding["found"] if finding else "unchanged" not in says
    name = "A CLIP model after a repair" if is_changed else "An unchanged CLIP model"
    has_prompts = VISUAL_PROMPTS in inspection.assets.model.config
    sections = {
        "What was found": _found(finding, chosen),
        "What was done": _done(finding, says, options, chosen, inspection),
        "What was not tested": (f"- {line}" for line in _NOT_TESTED),
        "How to load it": _LOADING_PROMPTED if has_prompts else _LOADING,
    }
    library = {"library_name": "clipmend"} if has_prompts else {}
    front = yaml.safe_dump(_FRONT | library, sort_keys=False)
    parts = (f"## {title}\n\n" + "\n".join(lines) for title, lines in sections.items())
    return "\n\n".join([f"---\n{front}---", f"# {name}", *parts]) + "\n"


def _found(finding: Mapping[str, Any], chosen: Chosen) -> Iterator[str]:
    if not finding:
        if chosen.detector:
            yield f"`{chosen.method}` trusts its ranking of the pairs, and names no backdoor."
        else:
            yield f"Nothing was searched: `{chosen.method}` trains on trusted pairs alone."
        yield "Whether the model had a backdoor is not known."
        return
    yield in_markdown(finding["says"])
    yield ""
    yield f"- Pairs: {finding['n_pairs']:,}, of which {finding['n_suspects']:,} are suspects."
    for group in finding.get("groups", ()):
        yield (
            f"- Group {in_code(group['word'])}: {group['n']} pairs; its estimated trigger turns "
            f"{100 * group['effect']:.0f} % of {group['n_effect']} other images "
            f"(p = {group['p_value']:.1g})."
        )


def _done(
    finding: Mapping[str, Any],
    says: str,
    options: Options,
    chosen: Chosen,
    inspection: Inspection,
) -> Iterator[str]:
    if finding and not finding["found"]:
        yield "Nothing was changed: without a finding, the weights are those of the model before."
    elif finding:
        before, after = finding["association_before"], finding["association_after"]
        yield f"The repair `{chosen.method}` changed the model."
        yield f"The mean cosine of the {finding['n_chosen']} chosen images with the text of the"
        yield f"finding was {before:.2f} before and is {after:.2f} now."
    else:
        yield says
    yield ""
    yield f"- Model before: `{options.model}`"
    if inspection.pairs is not None:
        yield f"- {len(inspection.pairs):,} {_PAIRS}: `{options.pairs}`"
    if inspection.trusted is not None:
        yield f"- {len(inspection.trusted):,} trusted pairs: `{options.trusted}`"
    papers = (PAPERS[key] for key in table.METHODS[chosen.stage][chosen.method].papers)
    cited = "; ".join(paper.citation for paper in papers)
    yield f"- Repair: `{chosen.method}` of clipmend {metadata.version('clipmend')}" + (
        f", after {cited}" if cited else ""
    )
    if chosen.detector:
        yield f"- Detector: `{chosen.detector}`"
    yield f"- Seed: {options.seed}"
    yield ""
    yield "```yaml"
    yield yaml.safe_dump(_plain(chosen.settings), sort_keys=False).rstrip()
    yield "```"


def _plain(value: Any) -> Any:
    """Return settings as YAML writes them: without tuples."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
