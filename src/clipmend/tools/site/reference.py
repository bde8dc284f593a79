"""The generated pages of the reference: commands, exit codes, files and presets."""

import ast
import inspect
from collections.abc import Iterator
from contextlib import chdir
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import typer

import clipmend.errors
from clipmend.data import artifacts
from clipmend.data.pairs import OVERLAY, PAIRS
from clipmend.engine import params, presets
from clipmend.engine.cell import FIELDS
from clipmend.methods.table import STAGES
from clipmend.metrics.rates import DEFINITIONS
from clipmend.report import contents
from clipmend.report.cells import COLUMNS
from clipmend.report.tables import detectors, model_scores
from clipmend.tools.estimate import forecast
from clipmend.tools.site.sources import sources
from clipmend.tools.site.tables import markdown

FOLDER = Path("docs/reference")
MARK = "<!-- Written by `make pages`; do not edit. -->"
_GPU_PRESETS = ("counts", "paper", "paper_scratch")
_CODES = (
    ("0", "The command did its work. That nothing was found is no error."),
    ("1", "`verify`: a file differs from its card. `audit`: a change has no cause. `prune`: you "
          "declined. `snakemake`: a job failed."),
    ("2", "A mistake of the user, in one line: what was asked, why it cannot be, and what is "
          "allowed. A misspelled option or command also prints the usage. Nothing was computed or "
          "written."),
    ("130", "Interrupted with Ctrl-C. Run again: finished cells stay."),
)  # fmt: skip


def pages() -> dict[Path, str]:
    """Return the text of every page, by its path in the repository."""
    texts = {"cli": cli(), "exit-codes": exit_codes(), "files": files(), "presets": preset_page()}
    return {FOLDER / f"{name}.md": f"{text}\n\n{MARK}\n" for name, text in texts.items()}


def cli() -> str:
    """Return the reference of all commands, from the command line's own help."""
    # By name: the command line imports the tools, so no tool may import it.
    group = typer.main.get_command(import_module("clipmend.cli").app)
    parts = [
        "# Commands\n\nEvery command of `clipmend`, from its own help. `clipmend COMMAND --help` "
        "prints the same.\nA mistake ends in one line with [exit code 2](exit-codes.md)."
    ]
    named = getattr(group, "commands", {})
    for title, is_stage in (("For users", False), ("Called by Snakemake", True)):
        parts.append(f"## {title}")
        for name, command in named.items():
            if (name in STAGES) == is_stage and not command.hidden:
                parts += [f"### `clipmend {name}`", _plain(command.help), _options(command)]
    return "\n\n".join(part for part in parts if part)


def _options(command: object) -> str:
    rows = []
    for option in getattr(command, "params", []):
        if getattr(option, "hidden", False) or option.name == "help":
            continue
        is_argument = option.param_type_name == "argument"
        names = [option.name.upper()] if is_argument else [*option.opts, *option.secondary_opts]
        default = option.default
        is_shown = isinstance(default, str | int | float | Path) and not isinstance(default, bool)
        shown = f"`{default}`" if is_shown else ""
        rows.append((", ".join(f"`{name}`" for name in names),
                     "required" if option.required else shown,
                     _plain(option.help)))  # fmt: skip
    return markdown(("argument or option", "default", "meaning"), rows, left=3) if rows else ""


def _plain(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def exit_codes() -> str:
    """Return the exit codes, and the tree of errors that a user can cause."""
    own = [
        cls
        for cls in vars(clipmend.errors).values()
        if isinstance(cls, type) and issubclass(cls, clipmend.errors.ClipmendError)
    ]
    rows = [
        (f"`{cls.__name__}`", f"`{cls.__bases__[0].__name__}`",
         _plain((inspect.getdoc(cls) or "").partition("\n")[0]).replace("``", "`"))
        for cls in own
    ]  # fmt: skip
    return "\n\n".join([
        "# Exit codes and errors",
        markdown(("exit code", "meaning"), _CODES, left=2),
        "## Errors\n\nFrom Python, a mistake is one of these exceptions of `clipmend.errors`. "
        "Its message is the one line that the command prints.",
        markdown(("error", "a kind of", "meaning"), rows, left=3),
        "Anything else is a bug, and keeps its traceback.",
    ])  # fmt: skip


def files() -> str:
    """Return the files of every stage with their contents, and the schemas of the tables."""
    parts = [
        "# Files\n\nThe files of a run, stage by stage. A folder of a stage is one *cell*; each "
        "also holds `card.json`, with the settings, the code and all hashes.\nA method may add "
        "files of its own; its page names them."
    ]
    for stage in STAGES:
        fields = ("seed<k>" if name == "seed" else f"<{name}>" for name in FIELDS[stage])
        path = "/".join(("results", stage, *fields))
        parts += [f"## `{stage}`", f"`{path}/`", *_described(stage)]
        outputs = [*artifacts.OUTPUTS.get(stage, {}).values()]
        outputs += artifacts.OUTPUTS["detect_model"].values() if stage == "detect" else ()
        outputs += [*contents.FILES, "index.html"] if stage == "report" else ()
        parts.append("Files: " + ", ".join(f"`{name}`" for name in outputs) + ".")
    numbers = {**DEFINITIONS, **detectors.DEFINITIONS, **model_scores.DEFINITIONS}
    parts += [
        "## Pairs: `train.parquet`, `trusted.parquet`, `val.parquet`, `test.parquet`",
        _schema(PAIRS),
        "`image` holds encoded bytes (PNG or JPEG).",
        "## Changed pairs: `overlay.parquet`",
        _schema(OVERLAY),
        "## `cells.csv`",
        "One row per evaluated model and trigger. Rates are fractions in [0, 1]. These columns "
        "come first; further numbers follow by name, each with its `n_<name>`, and `found` is "
        "last.",
        ", ".join(f"`{name}`" for name in COLUMNS) + ".",
        "## Numbers of `metrics.json`",
        "Each number is stored with its definition and its *n*. The most important ones:",
        markdown(("number", "definition"), [(f"`{k}`", _plain(v)) for k, v in numbers.items()],
                 left=2),
    ]  # fmt: skip
    return "\n\n".join(parts)


def _described(stage: str) -> Iterator[str]:
    """Yield the paragraphs of a stage's docstring that say what it reads and writes."""
    spec = find_spec(f"clipmend.stages.{stage}")
    tree = ast.parse(Path(str(spec and spec.origin)).read_text(encoding="utf-8"))
    runs = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    text = next(ast.get_docstring(node) or "" for node in runs if node.name == "run")
    for paragraph in text.split("\n\n"):
        if paragraph.lstrip().startswith(("Reads", "Writes")):
            yield " ".join(paragraph.split()).replace("``", "`").replace(" Writes ", "\n\nWrites ")


def _schema(schema: pa.Schema) -> str:
    rows = [
        (f"`{field.name}`", f"`{field.type}`", "may be null" if field.nullable else "")
        for field in schema
    ]
    return markdown(("column", "type", ""), rows, left=3)


def _cost(name: str, path: Path) -> tuple[Path, str, forecast.Estimate]:
    machine = "h200" if name in _GPU_PRESETS else "cpu"
    return path, machine, forecast.estimate(params.load(path), machine)


def preset_page() -> str:
    """Return every preset with its jobs, its hours and the results that are a run of it."""
    runs = {name: source for source in sources() for name in source.presets}
    rows = []
    # Aside: files that this folder happens to hold would change the numbers.
    with TemporaryDirectory() as empty, chdir(empty):
        costs = {name: _cost(name, path) for name, path in presets.presets().items()}
    for name, (path, machine, cost) in costs.items():
        hours = sum(stage.hours_total for stage in cost.stages)
        unit = "GPU" if machine == "h200" else "core"
        some = " at least" if cost.unknown else ""
        source = runs.get(name)
        link = f"[{source.title}](../../{source.page})" if source else ""
        rows.append((f"`{name}`", _plain(presets.summary(path)),
                     f"{sum(stage.total for stage in cost.stages):,}",
                     f"{hours:.1f} {unit} hours{some}", link))  # fmt: skip
    return "\n\n".join([
        "# Presets",
        "A preset holds the values that differ from another preset. `clipmend preset NAME` writes "
        "a complete `params.yaml` from it; then run `snakemake --cores all all` or `dvc repro`.",
        "*Jobs* and *hours* are of the complete grid, by `clipmend estimate` with the reference "
        "times of [`cpu` or `h200`](../results/cost.md). *At least*: the times of some jobs are "
        "not known, and are left out.",
        markdown(("preset", "purpose", "jobs", "hours", "committed result"), rows, left=2),
        "`clipmend preset` lists the presets. UBT is Unlearning Backdoor Threats, ABL is "
        "Anti-Backdoor Learning, and CA is clean accuracy.",
    ])  # fmt: skip
