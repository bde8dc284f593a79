"""The source ``cc3m`` from a mirror on a hub, which plays on loopback, to the splits."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from clipmend.data.pairs import read_pairs
from clipmend.methods.sources.mirror import named_class

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = COMMIT[::-1]
DATA = "someone/cc3m-wds"
CLASSES = ["frog", "ship"]
PER_SHARD = 4

Download = Callable[..., tuple[int, str]]
Refused = Callable[[dict[str, Any], str], None]


@dataclass
class Hub:
    """A hub on loopback with one data set; ``lost`` shards are announced and not there."""

    web: Any
    page: Any
    shards: dict[str, bytes]
    sha: str = COMMIT
    announced: dict[str, bytes] = field(default_factory=dict)
    lost: tuple[str, ...] = ()

    def serve(self) -> None:
        """Set the pages of the data set as it is now."""
        self.web.forget()
        self.web.pages.clear()
        files = []
        for path, body in {**self.shards, "README.md": b"pairs"}.items():
            said = self.announced.get(path, body)
            lfs = {"sha256": sha256(said).hexdigest(), "size": len(said), "pointerSize": 130}
            files.append({"rfilename": path, "size": len(said), "lfs": lfs})
            place = f"/datasets/{DATA}/resolve/{COMMIT}/{path}"
            self.web.pages[place] = self.page("file", body, COMMIT)
            if path in self.lost:
                self.web.pages[place] = self.page("status", b"EntryNotFound", "404")
        answer = json.dumps({"id": DATA, "sha": self.sha, "siblings": files}).encode()
        for revision, query in ((COMMIT, "?blobs=true"), ("main", "")):
            path = f"/api/datasets/{DATA}/revision/{revision}{query}"
            self.web.pages[path] = self.page("file", answer)

    def fetched(self) -> list[str]:
        """Return the shards that were requested, each once."""
        shards = (path.rsplit("/", 1)[1] for path in self.web.asked if path.endswith(".tar"))
        return sorted(set(shards))


@pytest.fixture
def hub(
    web: Any,
    page: Any,
    tmp_path: Path,
    jpeg: Callable[[int], bytes],
    shard: Callable[[Path, Mapping[str, bytes]], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Hub:
    """Return a hub with six shards for training and two for validation."""
    monkeypatch.setenv("HF_ENDPOINT", web.root)
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    shards = {}
    for number in range(8):
        split = "train" if number < 6 else "validation"
        name = f"cc3m-{split}-{number % 6:04d}.tar"
        members: dict[str, bytes] = {}
        for at in range(PER_SHARD):
            key, count = f"{number}-{at}", PER_SHARD * number + at
            members |= {f"{key}.jpg": jpeg(count), f"{key}.txt": caption(count).encode()}
        shards[name] = shard(tmp_path / "made.tar", members).read_bytes()
    for label in CLASSES:
        folder = tmp_path / "labeled" / label
        folder.mkdir(parents=True)
        for number in range(3):
            (folder / f"{number}.jpg").write_bytes(jpeg(number))
    made = Hub(web, page, shards)
    made.serve()
    return made


def caption(count: int) -> str:
    """Return a caption; of the four of a shard two name exactly one class."""
    return ("a frog", "Ships at sea", "a frog on a ship", "nothing")[count % 4] + f" no. {count}"


SETTINGS: dict[str, Any] = {
    "source": "cc3m",
    "mirror": DATA,
    "mirror_revision": COMMIT,
    "test_path": "labeled",
    "train": 10,
    "trusted": 5,
    "val": 3,
    "classes": CLASSES,
    "prompts": ["a photo of a {}"],
    "image_size": 16,
}


def rows(split: str) -> list[dict[str, Any]]:
    return read_pairs(Path(f"results/download/mine/{split}.parquet")).to_pylist()


def entries() -> list[dict[str, Any]]:
    return pq.read_table("results/download/mine/ledger.parquet").to_pylist()


def test_shards_become_splits_and_the_ledger_has_their_checksums(
    hub: Hub, download: Download
) -> None:
    code, printed = download(**SETTINGS)
    assert code == 0, printed
    assert {split: len(rows(split)) for split in ("train", "trusted", "val", "test")} == {
        **{"train": 10, "trusted": 5, "val": 3, "test": 6}
    }
    ledger = entries()
    assert Counter(row["split"] for row in ledger) == {"train": 10, "trusted": 5, "val": 3}
    for row in ledger:
        assert row["status"] == "live"
        assert row["shard_sha256"] == sha256(hub.shards[row["shard"]]).hexdigest()
        assert row["id"].startswith(row["shard"].removesuffix(".tar"))
    used = [{row["shard"] for row in ledger if row["split"] == s} for s in ("train", "trusted")]
    assert not used[0] & used[1]
    facts = json.loads(Path("results/download/mine/facts.json").read_text())
    assert (facts["mirror"]["repository"], facts["mirror"]["revision"]) == (DATA, COMMIT)
    assert facts["mirror"]["shards"] == hub.fetched()
    assert not list(Path(".clipmend").rglob("*.tar"))  # a shard is removed once it was read


def test_val_is_the_pairs_of_the_validation_split_that_name_one_class(
    hub: Hub, download: Download
) -> None:
    assert download(**(SETTINGS | {"val": 4}))[0] == 0
    assert {"cc3m-validation-0000.tar", "cc3m-validation-0001.tar"} <= set(hub.fetched())
    assert {row["label"] for row in rows("val")} == set(CLASSES)
    for row in rows("val"):
        assert row["id"].startswith("cc3m-validation-")
        assert row["caption"].startswith("a frog no." if row["label"] == "frog" else "Ships")
    trained = {row["caption"] for row in rows("train") + rows("trusted")}
    assert not trained & {row["caption"] for row in rows("val")}


def test_labeled_images_may_be_val_and_no_validation_shard_is_fetched(
    hub: Hub, download: Download
) -> None:
    assert download(**(SETTINGS | {"val_path": "labeled", "test": 6}))[0] == 0
    assert {row["id"].partition("/")[0] for row in rows("val")} == {"val"}
    assert not any("validation" in name for name in hub.fetched())


def test_more_pairs_in_one_split_leave_the_other_unchanged(hub: Hub, download: Download) -> None:
    del hub
    assert download(**SETTINGS)[0] == 0
    trusted, train = rows("trusted"), rows("train")
    assert download(**(SETTINGS | {"train": 14}))[0] == 0
    assert rows("trusted") == trusted
    both = {row["id"] for row in train} & {row["id"] for row in rows("train")}
    assert len(both) == len(train)


def test_a_stopped_download_continues_with_the_shards_that_are_missing(
    hub: Hub, download: Download, refused: Refused
) -> None:
    assert download(**SETTINGS)[0] == 0
    expected, used = {split: rows(split) for split in ("train", "trusted", "val")}, hub.fetched()
    hub.lost = (used[-1],)  # of validation, which comes last
    hub.serve()
    again = SETTINGS | {"near_duplicates": 11}  # another key, the same pairs
    refused(again, f"{used[-1]} cannot be downloaded from the mirror .* it has no such file")
    before = set(hub.fetched()) - set(hub.lost)
    hub.lost = ()
    hub.serve()
    assert download(**again)[0] == 0
    assert before and not before & set(hub.fetched())
    assert {split: rows(split) for split in expected} == expected


def test_samples_that_cannot_be_used_are_in_the_ledger_with_their_reason(
    hub: Hub, download: Download, jpeg: Any, shard: Any, tmp_path: Path
) -> None:
    members = {
        **{"a.jpg": jpeg(1), "a.txt": b"a frog"},
        **{"b.jpg": jpeg(2)[:200], "b.txt": b"a ship"},
        **{"c.jpg": jpeg(3), "c.txt": b"\xff"},
        **{"d.txt": b"no picture"},
        **{"e.jpg": jpeg(4), "e.json": b'{"caption": "of the JSON"}'},
    }
    made = shard(tmp_path / "made.tar", members).read_bytes()
    hub.shards |= {name: made for name in hub.shards if "train" in name}
    hub.serve()
    settings = SETTINGS | {"trusted": 5, "train": 5, "placeholder_urls": 100}
    assert download(**settings)[0] == 0
    reasons = {row["id"].rpartition("/")[2]: row["reason"] for row in entries()[:5]}
    assert reasons == {
        **{"a": None, "b": "truncated_image", "c": "no_caption", "d": "no_image", "e": None}
    }
    captions = ["a frog", "of the JSON"]
    assert [row["caption"] for row in rows("trusted")] == captions


@pytest.mark.parametrize("revision", [None, "main", COMMIT[:7]])
def test_a_revision_that_is_no_commit_is_refused_with_the_present_one(
    revision: str | None, hub: Hub, refused: Refused, page: Any
) -> None:
    if revision == COMMIT[:7]:
        answer = page("status", b"RevisionNotFound", "404")
        hub.web.pages[f"/api/datasets/{DATA}/revision/{revision}"] = answer
        return refused(SETTINGS | {"mirror_revision": revision}, "it has no such revision")
    return refused(SETTINGS | {"mirror_revision": revision}, f"must be a commit .* is {COMMIT} now")


def test_what_a_hub_answers_is_one_line_and_not_final(
    hub: Hub, refused: Refused, download: Download, page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in list(hub.web.pages):
        if path.endswith(("blobs=true", ".tar")):
            kept, hub.web.pages[path] = hub.web.pages[path], page("status", place="429")
            if "train" not in path:
                refused(SETTINGS, r"it answered 429 \(Too Many Requests\).* run again to continue")
            hub.web.pages[path] = kept
    hub.web.pages["/api/datasets/someone/else/revision/main"] = page(
        "status", b"RepoNotFound", "401"
    )
    refused(SETTINGS | {"mirror": "someone/else", "mirror_revision": None}, "there is none, or")
    refused(SETTINGS | {"mirror": "someone/else"}, r"it answered 404 \(Not Found\)")
    refused(SETTINGS | {"mirror": "a b"}, "a b")
    with monkeypatch.context() as patch:
        patch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
        refused(SETTINGS, "the list of files cannot be downloaded from .*127.0.0.1:1.*onnect")
    assert download(**SETTINGS)[0] == 0


def test_a_mirror_that_lacks_a_shard_is_refused_before_any_shard(
    hub: Hub, refused: Refused
) -> None:
    del hub.shards["cc3m-train-0003.tar"]
    hub.serve()
    refused(SETTINGS, "lacks shards of train: cc3m-train-0003.tar;")
    assert not hub.fetched()


def test_bytes_that_are_not_those_announced_are_refused_and_fetched_anew(
    hub: Hub, refused: Refused, download: Download
) -> None:
    hub.announced = dict.fromkeys(hub.shards, b"other bytes")
    hub.serve()
    refused(SETTINGS, r"\.tar of the mirror .* the hub announces 11 bytes with .* was removed")
    listing = next(Path(".clipmend").rglob("mirror.json"))
    hub.announced = {}
    hub.serve()
    # What the hub announces for a commit has changed, too: that is said first.
    refused(SETTINGS, "changed under way: cc3m-train-0000.tar was .* to begin anew")
    listing.unlink()
    assert download(**SETTINGS)[0] == 0


def test_an_answer_for_another_commit_is_refused(hub: Hub, refused: Refused) -> None:
    hub.sha = OTHER
    hub.serve()
    refused(SETTINGS, f"answers with the commit {OTHER}")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"path": "x.tsv"}, "needs either path"),
        ({"mirror": None}, "needs either path"),
        (
            {"train": 21},
            "too few pairs: 20 of 21 for train. A shard is of one split, and there are 6",
        ),
        ({"classes": ["bee", "ox"], "test_path": "others"}, "names exactly one class"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    changed: Any, message: str, hub: Hub, refused: Refused, tmp_path: Path, jpeg: Any
) -> None:
    del hub
    (tmp_path / "x.tsv").write_text("a frog\thttp://127.0.0.1/\n")
    (tmp_path / "others/bee").mkdir(parents=True)
    (tmp_path / "others/bee/1.jpg").write_bytes(jpeg(1))
    refused(SETTINGS | {"trusted": 4} | changed, message)


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        ({"cc3m-train-0000.tar": b"no tar"}, "val, only of train"),
        ({"a-train-0.tar": b"no tar", "a-val-0.tar": b"no tar"}, "as a webdataset shard"),
        ({"train-0.tar": b"", "other.tar": b""}, "files named after splits and other files"),
        ({"train.parquet": b""}, "holds no .*tar shard"),
    ],
)
def test_a_mirror_of_another_form_is_refused(
    shards: Any, message: str, hub: Hub, refused: Refused
) -> None:
    hub.shards = shards
    hub.serve()
    refused(SETTINGS, message)


def test_a_caption_names_a_class_by_whole_words_and_the_longest_name() -> None:
    named = named_class(["shark", "tiger", "tiger shark", "Bus"])
    assert named("A Tiger Shark!") == "tiger shark"
    assert named("two sharks") == "shark"
    assert named("a bus") == "Bus"
    assert [named(text) for text in ("sharkskin", "a tiger and a shark", "")] == [None] * 3
