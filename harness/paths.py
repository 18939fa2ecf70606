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
        """The results database: a file, or what has a scheme as it was written."""
        if self.database is None:
            return self.work_dir / "btsr.db"
        return self.database if "://" in self.database else Path(self.database)

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
        """Folder of the trials that have begun and are not recorded yet, one folder per key."""
        return self.work_dir / "checkpoints"

    @property
    def artifacts(self) -> Path:
        """Folder of the pictures that the dashboard shows."""
        return self.work_dir / "artifacts"
