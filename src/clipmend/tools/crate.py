"""A finished run as a Workflow Run RO-Crate: who made which file, from what, with what settings.

Follows the Provenance Run Crate profile 0.5 (https://w3id.org/ro/wfrun/provenance/0.5), which
extends the Workflow Run and Process Run profiles: the Snakefile is the workflow, a stage a tool,
a cell an execution of it.
"""

import base64
import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rocrate.model import ContextEntity, DataEntity
from rocrate.rocrate import ROCrate

from clipmend.engine import cards
from clipmend.engine.cell import RESULTS
from clipmend.errors import AuditError
from clipmend.methods.table import STAGES
from clipmend.tools.audit.sides import REPORT, WORKSPACE, Side, side

PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/ro/wfrun/provenance/0.5": "Provenance Run Crate",
}
CONTEXT = "https://w3id.org/ro/terms/workflow-run/context"
COMPLETED = "http://schema.org/CompletedActionStatus"
WORKFLOW = "Snakefile"
SOURCES = ("params.yaml", "dvc.yaml", "dvc.lock", "environment.yml", "pyproject.toml", "README.md")

Reference = dict[str, str]


def export(folder: Path, *, artifacts: bool) -> str:
    """Write the finished run in this folder as a crate, and return what was written.

    Args:
        artifacts: whether the files of all cells are copied; those of the report always are. A
            file that is not copied stands there with its name, size and hash.

    Raises:
        AuditError: the run is not finished or its files are not what its cards say, or the crate's
            folder is not empty.
    """
    run = side(WORKSPACE)
    _check(run, folder)
    crate = ROCrate(version="1.1")  # the one that the profiles build on
    writer = _Writer(crate, artifacts=artifacts)
    writer.workflow()
    for cell in sorted(run.cards, key=lambda cell: (cell == REPORT, cell)):
        writer.execution(cell, run.cards[cell])
    writer.whole(run)
    crate.write(folder)
    copied = "with all files" if artifacts else "with the report's files"
    return f"{len(run.cards)} cells, {copied}, in {folder}"


def _check(run: Side, folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise AuditError(f"{folder} is not empty; give a folder that is, or that does not exist.")
    if REPORT not in run.cards:
        raise AuditError(
            f"There is no {RESULTS}/{REPORT} of a finished run; run `snakemake` first."
        )
    wanted = {read["cell"] for card in run.cards.values() for read in card["inputs"].values()}
    missing = sorted(wanted - run.cards.keys())
    if missing:
        raise AuditError(f"The run is not finished: {missing[0]} is not made; run `snakemake`.")
    for cell, why in run.edited.items():
        raise AuditError(f"{cell} cannot be exported: {why}; run `snakemake` to mend it.")


@dataclass
class _Writer:
    """Fills a crate, entity by entity."""

    crate: ROCrate
    artifacts: bool
    actions: list[Reference] = field(default_factory=list)
    controls: list[Reference] = field(default_factory=list)
    files: dict[str, DataEntity] = field(default_factory=dict)

    def workflow(self) -> None:
        """Add the profiles, the Snakefile and its rules, and a tool and a step for each stage."""
        self.crate.metadata.extra_contexts.append(CONTEXT)
        root = self.crate.root_dataset
        root["name"] = "A clipmend run"
        root["description"] = "Backdoored CLIP models, repaired and compared, with all provenance."
        root["license"] = self._context("https://spdx.org/licenses/MIT", "CreativeWork", name="MIT")
        for url, name in PROFILES.items():
            version = url.rpartition("/")[2]
            root.append_to(
                "conformsTo", self._context(url, "CreativeWork", name=name, version=version)
            )
        snakemake = importlib.metadata.version("snakemake")
        kinds = ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"]
        main = self.crate.add_workflow(
            WORKFLOW,
            WORKFLOW,
            main=True,
            lang="snakemake",
            properties={"@type": kinds, "name": "clipmend"},
        )
        self._context("#snakemake", "SoftwareApplication", name="snakemake", version=snakemake)
        for name in (*SOURCES, *map(str, sorted(Path("workflow").rglob("*.smk")))):
            if Path(name).is_file():
                self.crate.add_file(name, name)
        for position, stage in enumerate(STAGES):
            main.append_to("hasPart", self._tool(stage))
            main.append_to("step", self._step(stage, position))

    def execution(self, cell: str, card: Mapping[str, Any]) -> None:
        """Add how one cell was made: its tool, what it read, what it wrote, its settings."""
        stage = cell.partition("/")[0]
        read = [
            self._file(f"{given['cell']}/{name}", digest)
            for given in card["inputs"].values()
            for name, digest in given["outputs"].items()
        ]
        action = self._context(
            f"#{cell}",
            "CreateAction",
            name=cell,
            description=cards.canonical({"settings": card["settings"], "shared": card["shared"]}),
            identifier=card["key"],
            instrument=_reference(f"#tool-{stage}"),
            object=[*read, *self._settings(cell, card)],
            result=[
                self._file(f"{cell}/{name}", written["sha256"], written["size"])
                for name, written in card["outputs"].items()
            ],
            actionStatus=_reference(COMPLETED),
        )
        self.actions.append(action)
        self.controls.append(
            self._context(
                f"#control-{cell}",
                "ControlAction",
                name=f"orchestrate {cell}",
                instrument=_reference(f"#step-{stage}"),
                object=action,
            )
        )

    def whole(self, run: Side) -> None:
        """Add the execution of the whole workflow, and of the engine."""
        report = run.cards[REPORT]["outputs"]
        whole = self._context(
            "#run",
            "CreateAction",
            name="Run of clipmend",
            instrument=_reference(WORKFLOW),
            object=[_reference("params.yaml")],
            result=[self._file(f"{REPORT}/{name}", report[name]["sha256"]) for name in report],
            actionStatus=_reference(COMPLETED),
        )
        self._context(
            "#engine",
            "OrganizeAction",
            name="Run of snakemake",
            instrument=_reference("#snakemake"),
            object=self.controls,
            result=whole,
        )
        self.crate.root_dataset["mentions"] = [whole, _reference("#engine"), *self.actions]

    def _tool(self, stage: str) -> Reference:
        return self._context(
            f"#tool-{stage}",
            "SoftwareApplication",
            name=f"clipmend {stage}",
            softwareVersion=importlib.metadata.version("clipmend"),
        )

    def _step(self, stage: str, position: int) -> Reference:
        return self._context(
            f"#step-{stage}",
            "HowToStep",
            name=stage,
            position=str(position),
            workExample=_reference(f"#tool-{stage}"),
        )

    def _settings(self, cell: str, card: Mapping[str, Any]) -> Iterable[Reference]:
        """Return a value for each setting, the seed and each file from outside ``results/``."""
        values = {"seed": card["seed"], **card["settings"], **card["shared"], **card["files"]}
        for name, value in values.items():
            if value is not None:
                yield self._context(
                    f"#{cell}:{name}", "PropertyValue", name=name, value=cards.canonical(value)
                )

    def _file(self, name: str, digest: str, size: int | None = None) -> Reference:
        """Return a file of a cell: copied into the crate, or named by its hash."""
        path = f"{RESULTS}/{name}"
        if path not in self.files:
            stated: dict[str, Any] = {"name": path, "sha256": digest}
            if self.artifacts or name.startswith(f"{REPORT}/"):
                entity = self.crate.add_file(path, path, properties=stated)
            else:
                at = named_by_hash(digest, path)
                entity = self.crate.add(DataEntity(self.crate, at, {"@type": "File", **stated}))
            self.files[path] = entity
        if size is not None:
            self.files[path]["contentSize"] = str(size)
        return _reference(self.files[path].id)

    def _context(self, at: str, kind: str, /, **properties: Any) -> Reference:
        entity = ContextEntity(self.crate, at, {"@type": kind, **properties})
        return _reference(self.crate.add(entity).id)


def named_by_hash(digest: str, path: str) -> str:
    """Return the URI of bytes that are elsewhere (RFC 6920), with the path they had."""
    raw = base64.urlsafe_b64encode(bytes.fromhex(digest)).decode().rstrip("=")
    return f"ni:///sha-256;{raw}#{path}"


def _reference(identifier: str) -> Reference:
    return {"@id": identifier}
