"""Where a run reads and writes."""

from pathlib import Path

from models.config import Frozen


class RunPaths(Frozen):
    """Folders and results database of a run; none of it is part of a trial's key."""

    data_dir: Path | None = None
    work_dir: Path = Path("runs")
    download: bool = False
    """Whether raw files that are missing may be fetched from their official source."""

    database: str | None = None
    """Path or URL of the results database; None: `btsr.db` in `work_dir`."""

    @property
    def results(self) -> str | Path:
        """The results database: a file, which a `sqlite:///` URL is too, or a server's URL as it was written."""
        if self.database is None:
            return self.work_dir / "btsr.db"
        if "://" not in self.database:
            return Path(self.database)
        from harness.database import file_of, is_url

        return self.database if is_url(self.database) else file_of(self.database)

    @property
    def shown(self) -> str:
        """The results database for messages, without a password."""
        if self.database is None:
            return str(self.results)
        from harness.database import shown

        return shown(self.database)

    @property
    def prepared(self) -> Path:
        """Folder of the prepared, memory-mapped data."""
        return self.work_dir / "prepared"

    @property
    def checkpoints(self) -> Path:
        """Folder of trials, one per key: of those that are not recorded yet, and of those whose weights are kept."""
        return self.work_dir / "checkpoints"

    @property
    def artifacts(self) -> Path:
        """Folder of the pictures that the dashboard shows."""
        return self.work_dir / "artifacts"
