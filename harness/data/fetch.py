"""Downloads of raw files: pooch with sums where they are known, resumed after a break, tried on several mirrors.

A file stands under its final name only when it is complete: right length, right SHA-256 where it is known, intact to
the last byte otherwise. Until then it grows in the folder `.<name>.incoming` beside it. Proxies are those of the usual
environment variables (requests reads them).
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests
from rich.console import Console

from harness.data.catalogue import (
    DATA_DIR_VARIABLE,
    command,
    data_folder,
    downloadable,
    fetching,
    find,
    locate,
    only_edition,
    source,
)
from harness.data.kinds import DatasetSpec, RawFile
from harness.data.reserve import reserved
from harness.data.resume import CutShort, Patience, Resuming
from harness.errors import ChecksumError, ConfigError, DataError

MIRROR_VARIABLE = "BTSR_MIRROR"
"""Environment variable: an address to which the file's name is added, tried before the official ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why one address did not give the file."""

    url: str
    reason: str
    checksum: bool = False


def notice(spec: DatasetSpec, file: RawFile) -> str:
    """What is about to be fetched: size, source, licence, in one line."""
    size = f"about {file.megabytes:,} MB" if file.megabytes else "size unknown before it begins"
    edition = f", edition {file.edition}" if file.edition else ""
    return (
        f"{spec.key} ({spec.title}{edition}): downloading {file.name}, {size}, from {_addresses(file)[0]}; "
        f"licence: {spec.licence}"
    )


def download(
    spec: DatasetSpec,
    data_dir: Path | None = None,
    *,
    consent: bool = False,
    console: Console | None = None,
    patience: Patience | None = None,
) -> Path:
    """Path of a file of the data set in the data folder, fetched when there is none yet.

    Several processes at once fetch once. What is fetched is announced on `console` (standard error) first. Raises
    ConfigError for a source whose terms must be accepted while `consent` is not given, DataError when nothing can be
    fetched or written, ChecksumError when all that was fetched is not the file that is known.
    """
    there = find(spec, data_dir)
    if there is not None:
        return there
    file = downloadable(spec)
    if file is None:
        return locate(spec, data_dir)
    if file.consent and not consent:
        raise ConfigError(
            f"{spec.key} ({spec.title}) is fetched only when its terms are accepted ({spec.url}; {spec.licence}): read "
            f"them, then run {fetching(spec, file, only_edition(spec), data_dir)}"
        )
    target = data_folder(data_dir) / file.name
    console = console or Console(stderr=True)
    try:
        with reserved(target):
            if not target.is_file():
                console.print(notice(spec, file), markup=False, highlight=False, soft_wrap=True)
                _fetch(spec, file, data_dir, console, patience or Patience())
    except OSError as error:
        raise DataError(
            f"{file.name} cannot be written to {target.parent} ({error}): choose another folder by --data-dir or "
            f"{DATA_DIR_VARIABLE}"
        ) from error
    return target


def _fetch(spec: DatasetSpec, file: RawFile, data_dir: Path | None, console: Console, patience: Patience) -> None:
    """Fetch the file from the first address that gives it. Raises DataError with the reason of each that does not."""
    failures: list[Failure] = []
    target = data_folder(data_dir) / file.name
    for url in _addresses(file):
        if failures:
            words = f"{failures[-1].url}: {failures[-1].reason}: trying {url}"
            console.print(words, markup=False, highlight=False, soft_wrap=True)
        failure = _from(url, file, target, console, patience)
        if failure is None:
            return
        failures.append(failure)
    kind = ChecksumError if all(failure.checksum for failure in failures) else DataError
    raise kind(
        f"{spec.key}: {file.name} could not be downloaded: "
        + "; ".join(f"{failure.url}: {failure.reason}" for failure in failures)
        + f": try again later, check the proxy settings, or get it by hand ({source(spec)}) and run "
        + command(f"add {spec.key} FILE", file.edition, data_dir)
    )


def _from(url: str, file: RawFile, target: Path, console: Console, patience: Patience) -> Failure | None:
    """Fetch the file from one address; None when it now stands under its final name."""
    pooch.get_logger().setLevel("WARNING")
    incoming = target.with_name(f".{target.name}.incoming")
    get = Resuming(incoming / f"{target.name}.partial", console, patience, known=file.sha256 is not None)
    get.clear_but_own()
    failure = None
    # A file put together from several answers that is not right is fetched once more in one piece.
    while failure is None or get.resumed:
        try:
            pooch.retrieve(
                url,
                known_hash=f"sha256:{file.sha256}" if file.sha256 else None,
                fname=target.name,
                path=incoming,
                downloader=get,
            )
        except (requests.RequestException, CutShort) as error:
            get.keep_what_came()
            return Failure(url=url, reason=_reason(error))
        except DataError as error:
            failure = Failure(url=url, reason=str(error))
        except ValueError:
            # From pooch, whose temporary file is gone: the sum differs.
            failure = Failure(
                url=url,
                reason=f"what came is not the official {file.name}: its SHA-256 is not {file.sha256}",
                checksum=True,
            )
        else:
            (incoming / target.name).replace(target)
            shutil.rmtree(incoming)
            return None
        shutil.rmtree(incoming)
        incoming.mkdir()
    incoming.rmdir()
    return failure


def _addresses(file: RawFile) -> list[str]:
    """Where the file is fetched from, in this order."""
    mirror = os.environ.get(MIRROR_VARIABLE, "").rstrip("/")
    return [f"{mirror}/{file.name}", *file.urls] if mirror else list(file.urls)


def _reason(error: Exception) -> str:
    """One line that says what went wrong on the way."""
    if isinstance(error, requests.TooManyRedirects):
        return "the server redirects in a circle"
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answers {response.status_code} {response.reason}"
    if isinstance(error, requests.Timeout):
        return "the server does not answer in time"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy cannot be used"
    if isinstance(error, requests.ConnectionError):
        return "no connection to the server"
    return " ".join(str(error).split())[:200]
