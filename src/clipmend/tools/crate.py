"""Export a finished run as a Workflow Run RO-Crate: each file with its inputs and settings.

It follows the Provenance Run Crate profile 0.5 (https://w3id.org/ro/wfrun/provenance/0.5), which
extends the Workflow Run and Process Run profiles. The Snakefile is the workflow, a stage is a
tool, and a cell is an execution of it.
"""

import base64
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rocrate.model import ContextEntity, DataEntity
from rocrate.rocrate import ROCrate

from clipmend.engine import cards
from clipmend.engine.cell import RESULTS
from clipmend.engine.folders import visible
from clipmend.errors import AuditError
from clipmend.methods.table import STAGES
from clipmend.tools.audit.sides import REPORT, WORKSPACE, Side, side

PROFILES = {"process": "Process", "workflow": "Workflow", "provenance": "Provenance"}
VERSION = "0.5"  # of the profiles
CONTEXT = "https://w3id.org/ro/terms/workflow-run/context"
COMPLETED = "http://schema.org/CompletedActionStatus"
WORKFLOW = "Snakefile"
SOURCES = ("params.yaml", "dvc.yaml", "dvc.lock", "environment.yml", "pyproject.toml", "README.md")

Reference = dict[str, str]


def export(folder: Path, *, artifacts: bool) -> str:
    """Write the finished run in this folder as a crate, and return a summary.

    Args:
        artifacts: whether the files of all cells are copied; those of the report always are. A
            file that is not copied is listed with its name, size and hash.

    Raises:
        AuditError: the run is not finished, its files differ from its cards, or the folder of the
            crate is not empty.
    """
    run = side(WORKSPACE)
    _check(run, folder)
    crate = ROCrate(version="1.1")  # the version that the profiles extend
    writer = _Writer(crate, artifacts)
    writer.workflow()
    # The report last: it refers to the files of all other cells.
    for cell in sorted(run.cards, key=lambda cell: (cell == REPORT, cell)):
        writer.execution(cell, run.cards[cell])
    writer.run(run)
    crate.write(folder)
    copied = "with all files" if artifacts else "with the report's files"
    return f"{len(run.cards)} cells, {copied}, in {folder}"


def _check(run: Side, folder: Path) -> None:
    if folder.exists() and (folder.is_file() or visible(folder)):
        raise AuditError(f"{folder} is not empty. Name an empty or a new folder.")
    if REPORT not in run.cards:
        raise AuditError(f"{RESULTS}/{REPORT} has no finished report; run `snakemake` first.")
    inputs = {read["cell"] for card in run.cards.values() for read in card["inputs"].values()}
    missing = sorted(inputs - run.cards.keys())
    if missing:
        raise AuditError(f"The run is not finished: {missing[0]} is missing; run `snakemake`.")
    for cell, why in run.edited.items():
        raise AuditError(f"{cell} cannot be exported: {why}; run `snakemake` to make it again.")


@dataclass
class _Writer:
    """Fills a crate, entity by entity.

    Attributes:
        files: path -> entity of each file.
    """

    crate: ROCrate
    artifacts: bool
    files: dict[str, DataEntity] = field(default_factory=dict)

    def workflow(self) -> None:
        """Add the profiles, the Snakefile and its rules, and a tool and a step for each stage."""
        self.crate.metadata.extra_contexts.append(CONTEXT)
        root = self.crate.root_dataset
        root["name"] = "A clipmend run"
        root["description"] = "Backdoored CLIP models, repaired and compared, with all provenance."
        root["license"] = self._add("https://spdx.org/licenses/MIT", "CreativeWork", name="MIT")
        for word, name in PROFILES.items():
            url, title = f"https://w3id.org/ro/wfrun/{word}/{VERSION}", f"{name} Run Crate"
            profile = self._add(url, "CreativeWork", name=title, version=VERSION)
            root.append_to("conformsTo", profile)
        kinds = ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"]
        main = self.crate.add_workflow(
            WORKFLOW,
            WORKFLOW,
            main=True,
            lang="snakemake",
            properties={"@type": kinds, "name": "clipmend"},
        )
        self._software("#snakemake", "snakemake", "version", "snakemake")
        for name in (*SOURCES, *map(str, sorted(Path("workflow").rglob("*.smk")))):
            if Path(name).is_file():
                self.crate.add_file(name, name)
        for position, stage in enumerate(STAGES):
            tool = self._software(
                f"#tool-{stage}", f"clipmend {stage}", "softwareVersion", "clipmend"
            )
            main.append_to("hasPart", tool)
            step = {"name": stage, "position": str(position), "workExample": tool}
            main.append_to("step", self._add(f"#step-{stage}", "HowToStep", **step))

    def execution(self, cell: str, card: Mapping[str, Any]) -> None:
        """Add the execution of one cell: its tool, inputs, outputs and settings."""
        stage = cell.partition("/")[0]
        inputs = [
            self._file(f"{read['cell']}/{name}", digest)
            for read in card["inputs"].values()
            for name, digest in read["outputs"].items()
        ]
        # The seed, every setting, and every file from outside `results/`.
        values = {"seed": card["seed"], **card["settings"], **card["shared"], **card["files"]}
        inputs += [
            self._add(f"#{cell}:{name}", "PropertyValue", name=name, value=cards.canonical(value))
            for name, value in values.items()
            if value is not None
        ]
        action = self._add(
            f"#{cell}",
            "CreateAction",
            name=cell,
            description=cards.canonical({"settings": card["settings"], "shared": card["shared"]}),
            identifier=card["key"],
            instrument=_reference(f"#tool-{stage}"),
            object=inputs,
            result=[
                self._file(f"{cell}/{name}", written["sha256"], written["size"])
                for name, written in card["outputs"].items()
            ],
            actionStatus=_reference(COMPLETED),
        )
        # The provenance profile asks for a ControlAction per step, beside the CreateAction.
        self._add(
            f"#control-{cell}",
            "ControlAction",
            name=f"orchestrate {cell}",
            instrument=_reference(f"#step-{stage}"),
            object=action,
        )

    def run(self, run: Side) -> None:
        """Add the execution of the workflow, and that of Snakemake."""
        report = run.cards[REPORT]["outputs"]
        execution = self._add(
            "#run",
            "CreateAction",
            name="Run of clipmend",
            instrument=_reference(WORKFLOW),
            object=[_reference("params.yaml")],
            result=[self._file(f"{REPORT}/{name}", report[name]["sha256"]) for name in report],
            actionStatus=_reference(COMPLETED),
        )
        engine = self._add(
            "#engine",
            "OrganizeAction",
            name="Run of snakemake",
            instrument=_reference("#snakemake"),
            object=[_reference(f"#control-{cell}") for cell in run.cards],
            result=execution,
        )
        actions = [_reference(f"#{cell}") for cell in run.cards]
        self.crate.root_dataset["mentions"] = [execution, engine, *actions]

    def _file(self, name: str, digest: str, size: int | None = None) -> Reference:
        """Return the entity of a file: copied into the crate, or named by its hash."""
        path = f"{RESULTS}/{name}"
        # A file is an output once and an input many times; a crate has one entity for it.
        if path not in self.files:
            properties: dict[str, Any] = {"name": path, "sha256": digest}
            if self.artifacts or name.startswith(f"{REPORT}/"):
                entity = self.crate.add_file(path, path, properties=properties)
            else:
                # A URI that names a file by its hash (RFC 6920), with its path as the fragment.
                raw = base64.urlsafe_b64encode(bytes.fromhex(digest)).decode().rstrip("=")
                uri = f"ni:///sha-256;{raw}#{path}"
                properties["@type"] = "File"
                entity = self.crate.add(DataEntity(self.crate, uri, properties))
            self.files[path] = entity
        if size is not None:
            self.files[path]["contentSize"] = str(size)
        return _reference(self.files[path].id)

    def _software(self, at: str, name: str, key: str, package: str) -> Reference:
        version = importlib.metadata.version(package)
        return self._add(at, "SoftwareApplication", name=name, **{key: version})

    def _add(self, at: str, kind: str, /, **properties: Any) -> Reference:
        entity = ContextEntity(self.crate, at, {"@type": kind, **properties})
        return _reference(self.crate.add(entity).id)


def _reference(identifier: str) -> Reference:
    return {"@id": identifier}
