"""What the registry says of a data set and of the files it can be read from. Imports no heavy library."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import ConfigError, unknown_name

Reader = Literal[
    "movielens",
    "movielens_tab",
    "table",
    "jsonl",
    "amazon_json",
    "amazon_csv",
    "yelp_json",
    "snap",
    "behance",
    "beer_csv",
    "beer_json",
]
"""How a raw file is read: a key of `harness.data.readers.READERS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawFile:
    """One file that a data set can be read from."""

    name: str
    """Path below the data folder, with forward slashes; of a user's own file the absolute path."""
    reader: Reader
    edition: str = ""
    """Which of several published versions of the data set this is; empty where there is only one."""
    urls: tuple[str, ...] = ()
    """Where the file is fetched from, in this order; empty: it has to be put there by hand."""
    sha256: str | None = None
    """Of the official file, where it is known; mirrors re-pack, so a file with another sum is used if it was put there
    by hand, though `btsr-data add` and `verify` tell it, while a download that differs is refused."""
    megabytes: int | None = None
    """About how large the download is."""
    rows: int | None = None
    """Interactions of the official file, where they are known."""
    consent: bool = False
    """The source asks to accept terms first, so that nothing is fetched without being told to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSpec:
    """One data set: what it is called, which files it is read from and where they come from."""

    key: str
    title: str
    files: tuple[RawFile, ...]
    """In order of preference, official names first; empty: the data set is generated."""
    url: str
    """Where the official file is to be had; empty for a generated one or a file of the user's."""
    licence: str
    note: str = ""
    columns: tuple[str, str, str] = ("", "", "")
    """User, item and time column of a user's own file; empty: found by their usual names."""

    @property
    def embedded(self) -> bool:
        """Whether the data set is generated and needs no file."""
        return not self.files

    @property
    def editions(self) -> tuple[str, ...]:
        """The names of its editions, each once; empty where there is only one."""
        return tuple(dict.fromkeys(file.edition for file in self.files if file.edition))

    def files_of(self, edition: str) -> tuple[RawFile, ...]:
        """The files of an edition, all for an empty name. Raises ConfigError for an unknown one."""
        if not edition:
            return self.files
        if not self.editions:
            raise ConfigError(f"{self.key} has no editions: drop --edition {edition}")
        if edition not in self.editions:
            raise unknown_name(f"edition of {self.key}", edition, self.editions)
        return tuple(file for file in self.files if file.edition == edition)

    def official(self, sha256: str) -> RawFile | None:
        """The entry of `files` whose official file has this sum, whatever it is called; None where none has."""
        return next((file for file in self.files if file.sha256 == sha256), None)

    def raw_file(self, path: Path) -> RawFile:
        """The entry of `files` that `path`, a result of `locate`, was found under."""
        return next(file for file in self.files if path.as_posix().endswith("/" + file.name) or str(path) == file.name)
