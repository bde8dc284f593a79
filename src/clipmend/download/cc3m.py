"""The source ``cc3m``: pairs of Conceptual Captions 3M, fetched by their addresses."""

from dataclasses import dataclass

from clipmend.errors import DownloadError
from clipmend.methods import METHODS


@dataclass(frozen=True)
class CC3M:
    """Holds the source's place in the table of methods; asked for, it says that it is not built."""

    def __post_init__(self) -> None:
        built = ", ".join(name for name in METHODS["download"] if name != "cc3m")
        raise DownloadError(
            f"The source 'cc3m' is not built yet; there are: {built}. Images that are already "
            "fetched can be read by 'pairs', from parquet files or from a folder with a CSV file."
        )
