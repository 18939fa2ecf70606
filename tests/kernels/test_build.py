"""Building the kernels: once, in the cache, and never in the way."""

import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.kernels import build
from models.kernels.build import VARIANTS, KernelUnavailable, cache_folder, fitting, key_of, load
from models.kernels.cross_entropy import available, usable


def script(path: Path, *lines: str) -> str:
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    path.chmod(0o755)
    return str(path)


def put(folder: Path, name: str, library: bytes, record: dict[str, str] | None = None) -> Path:
    """A build in a cache with its record, the true one where none is given."""
    path = folder / f"{name}.so"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(library)
    build._write_record(path, record or {"sha256": build._sha256(path)})
    return path


def built() -> Path:
    """This processor's build in the session's cache."""
    return cache_folder() / f"{key_of(load().variant, build._compiler())}.so"


@pytest.mark.usefixtures("native")
def test_processes_that_start_together_build_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    logged = script(tmp_path / "logged-c++", f'echo "$@" >> {log}', 'exec c++ "$@"')
    monkeypatch.setenv("CXX", f"env {logged}")
    monkeypatch.setenv("BTSR_CACHE", str(tmp_path / "cache"))
    lesser = (
        "VARIANTS = tuple(v for v in build.VARIANTS if v.name == sys.argv[1])"  # without those that are not to be had
    )
    code = f"import sys; from models.kernels import build; build.{lesser}"
    code += "; from models.kernels.cross_entropy import available; print(available().name)"
    racers = [
        subprocess.Popen([sys.executable, "-c", code, load().variant.name], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    names = {racer.communicate(timeout=300)[0].strip() for racer in racers}
    assert names == {available().name}
    compiled = [line.partition(" -c ")[2].split()[0] for line in log.read_text().splitlines() if " -c " in line]
    assert sorted(Path(source).name for source in compiled) == [s for s in build.SOURCES if s.endswith(".cpp")]
    kept = sorted(p.suffix for p in (tmp_path / "cache" / "kernels").iterdir())
    assert kept == [".json", ".lock", ".so"]


def test_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BTSR_KERNELS", "off")
    assert available().name == "torch" and "BTSR_KERNELS=off" in str(available().reason)
    assert not usable(torch.ones(2, 8), torch.ones(3, 8))


def test_a_wrong_switch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BTSR_KERNELS", "no")
    with pytest.raises(ValueError, match="BTSR_KERNELS=no: use auto or off"):
        load()


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("BTSR_CACHE", str(tmp_path))
    assert available().name == "torch" and "no-such-compiler" in str(available().reason)


@pytest.mark.parametrize("named", ["", "'c++"])
def test_a_compiler_that_cannot_be_named(named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", named)
    monkeypatch.setenv("BTSR_CACHE", str(tmp_path))
    assert available().name == "torch" and "C++ compiler" in str(available().reason)


def test_a_compiler_that_is_no_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "data-c++"
    program.write_bytes(b"\0no program")
    program.chmod(0o755)
    monkeypatch.setenv("CXX", str(program))
    monkeypatch.setenv("BTSR_CACHE", str(tmp_path / "cache"))
    assert available().name == "torch" and f"{program} cannot be run" in str(available().reason)


def test_a_compiler_that_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "ANSWER_SECONDS", 0.2, raising=False)
    monkeypatch.setenv("CXX", script(tmp_path / "slow-c++", "exec sleep 5"))
    monkeypatch.setenv("BTSR_CACHE", str(tmp_path / "cache"))
    assert available().name == "torch" and "does not tell its version" in str(available().reason)


@pytest.mark.parametrize("named", ["env no-such-compiler", "false"])
def test_a_program_that_is_no_compiler(named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", named)
    monkeypatch.setenv("BTSR_CACHE", str(tmp_path / "cache"))
    assert available().name == "torch" and f"{named} does not tell its version" in str(available().reason)
    assert not (tmp_path / "cache").exists()


def test_a_compiler_with_words_before_or_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "env c++ -pipe")
    words = build._compiler().split()
    assert words[0].endswith("/env") and words[1:3] == ["c++", "-pipe"]


@pytest.mark.usefixtures("native")
def test_a_build_is_used_where_there_is_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    variant, here = load().variant, built()
    kept = tmp_path / "kernels"
    kept.mkdir()
    for file in (here, here.with_suffix(".json")):
        (kept / file.name).symlink_to(file)
    monkeypatch.setenv("BTSR_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert available().name == f"fused_ce_{variant.instructions('fp32')}"
    monkeypatch.setattr(torch, "__version__", "0.0")
    build._outcome.cache_clear()
    assert available().name == "torch" and "no-such-compiler" in str(available().reason)


def test_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BTSR_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    assert available().name == "torch" and "set BTSR_CACHE" in str(available().reason)


@pytest.mark.usefixtures("native")
def test_a_file_system_without_locks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("no flock here")

    monkeypatch.setattr(build, "FileLock", refuse)
    monkeypatch.setenv("BTSR_CACHE", str(tmp_path))
    assert available().name == "torch" and "no flock here" in str(available().reason)


def test_a_compiler_that_fails_is_asked_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = tmp_path / "log"
    refuse = (f"echo called >> {log}", "echo 'tile.h:1: error: too old' >&2", "exit 1")
    lines = ('case "$*" in', "*' -c '*)", *refuse, ";;", "esac", 'exec c++ "$@"')
    monkeypatch.setenv("CXX", script(tmp_path / "old-c++", *lines))
    monkeypatch.setenv("BTSR_CACHE", str(tmp_path / "cache"))
    assert available().name == "torch" and "error: too old" in str(available().reason)
    calls = log.read_text()
    assert available().name == "torch" and "error: too old" in str(available("bf16").reason)
    assert log.read_text() == calls
    build._outcome.cache_clear()  # as another process
    assert available().name == "torch" and "error: too old (not tried again" in str(available().reason)
    assert log.read_text() == calls
    build._outcome.cache_clear()
    monkeypatch.setattr(build, "RETRY_SECONDS", 0.0)
    assert available().name == "torch" and len(log.read_text()) > len(calls)


@pytest.mark.usefixtures("native")
def test_where_one_build_fails_the_next_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, narrow_cache: str
) -> None:
    """Such as with an assembler that is older than the compiler."""
    narrow = next(v for v in VARIANTS if v.name == "avx2")
    tiles = replace(narrow, name="tiles", flags=(*narrow.flags, "-Dfloat=no_such_type"))
    monkeypatch.setattr(build, "VARIANTS", (tiles, narrow))
    monkeypatch.setenv("BTSR_CACHE", narrow_cache)
    build._outcome.cache_clear()
    library = load()
    build._outcome.cache_clear()
    assert library.variant == narrow and "the kernels do not build here: " in str(library.missed)


@pytest.mark.usefixtures("native")
def test_of_a_cache_that_cannot_be_written_the_best_build_there_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Such as an administrator's, filled on a node with a lesser processor."""
    variant, here = load().variant, built()
    better = replace(variant, name="better")
    monkeypatch.setattr(build, "VARIANTS", (better, variant))
    put(tmp_path / "kernels", here.stem, here.read_bytes())

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("read only")

    monkeypatch.setattr(build, "FileLock", refuse)
    monkeypatch.setenv("BTSR_CACHE", str(tmp_path))
    library = load()
    assert library.variant == variant and "read only" in str(library.missed)


@pytest.mark.usefixtures("native")
def test_without_a_compiler_what_failed_with_one_hides_no_build_by_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    variant, whole = load().variant, built().read_bytes()
    stem = build._stem(variant)
    put(tmp_path / "kernels", f"{stem}-00000000", b"cut off", {"failed": "too old"})
    put(tmp_path / "kernels", f"{stem}-ffffffff", whole)
    monkeypatch.setenv("BTSR_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert load().variant == variant


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("size", [0, 100_000])
def test_a_damaged_build_is_made_anew(size: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Loading a file that was cut off would end the process."""
    variant, here = load().variant, built()
    whole, kept = here.read_bytes(), tmp_path / "kernels"
    target = put(kept, here.stem, whole[:size], {"sha256": build._sha256(here)})
    monkeypatch.setenv("BTSR_CACHE", str(tmp_path))
    with monkeypatch.context() as without:
        without.setenv("CXX", "no-such-compiler")
        assert available().name == "torch"
    build._outcome.cache_clear()

    def compile_again(variant: build.Variant, library: Path) -> None:
        put(kept, library.stem, whole)

    monkeypatch.setattr(build, "_compile", compile_again)
    monkeypatch.setattr(build, "VARIANTS", (variant,))
    assert available().name == f"fused_ce_{variant.instructions('fp32')}" and target.read_bytes() == whole


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BTSR_CACHE", str(tmp_path / "file"))
    assert available().name == "torch" and str(tmp_path / "file") in str(available().reason)


def test_a_processor_without_vectors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx2": True, "fma3": False})
    with pytest.raises(KernelUnavailable, match="AVX2"):
        fitting()
    monkeypatch.setenv("BTSR_CACHE", str(tmp_path))
    assert available().name == "torch"


def test_the_best_variant_that_fits_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for variant in VARIANTS:
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda v=variant: dict.fromkeys(v.needs, True))
        assert fitting()[0] == variant


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("lacking", ["compiler", "system"])
def test_without_tiles_the_next_build_is_taken(
    lacking: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, narrow_cache: str
) -> None:
    """AMX needs a newer compiler than the others, and a system that hands out its registers."""
    narrow = next(v for v in VARIANTS if v.name == "avx2")
    tiles = replace(narrow, name="tiles", flags=(*narrow.flags, "-mno-such-tiles") if lacking == "compiler" else ())
    monkeypatch.setattr(build, "VARIANTS", (tiles, narrow))
    monkeypatch.setenv("BTSR_CACHE", narrow_cache)
    if lacking == "system":
        stub, refusing = tmp_path / "stub.cpp", tmp_path / "refusing.so"
        stub.write_text('extern "C" int ready() { return 0; }')
        compiler = shlex.split(os.environ.get("CXX", "c++"))
        subprocess.run([*compiler, "-shared", "-fPIC", "-o", refusing, stub], check=True)
        built = build._built
        monkeypatch.setattr(build, "_built", lambda v, *rest: refusing if v == tiles else built(v, *rest))
    build._outcome.cache_clear()
    library = load()
    build._outcome.cache_clear()
    assert library.variant == narrow
    words = "does not know the flags of tiles" if lacking == "compiler" else "does not let this process run the tiles"
    assert words in str(library.missed)


def test_a_compiler_without_bf16_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = next(v for v in VARIANTS if v.name == "avx2")
    library = build.Library(variant=narrow, handle=None, missed="the C++ compiler is old")  # type: ignore[arg-type]
    monkeypatch.setattr("models.kernels.cross_entropy.load", lambda: library)
    assert available("bf16").reason == "no bf16 kernel for avx2: the C++ compiler is old"


def test_code_that_is_the_same_has_one_name() -> None:
    names = {variant.name: (variant.instructions("fp32"), variant.instructions("bf16")) for variant in VARIANTS}
    assert names["amxbf16"] == ("avx512bf16", "amxbf16") and names["avx512bf16"] == ("avx512bf16", "avx512bf16")


@pytest.mark.usefixtures("native")
def test_the_best_build_is_had_where_compiler_and_system_allow_it() -> None:
    """A mistake in the code of AMX alone must not hide behind the next build."""
    library = load()
    if library.missed is not None:
        lacking = ("does not know the flags", "does not let this process", "no such instruction")
        assert any(words in library.missed for words in lacking)
    else:
        assert library.variant == fitting()[0]


def test_a_build_is_named_after_what_makes_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = {key_of(variant, compiler) for variant in VARIANTS for compiler in ("g++ 12", "g++ 13")}
    monkeypatch.setattr(torch, "__version__", "0.0")
    names.add(key_of(VARIANTS[0], "g++ 12"))
    with monkeypatch.context() as other:
        other.setattr(build, "FLAGS", ("-O2",), raising=False)
        names.add(key_of(VARIANTS[0], "g++ 12"))
    for name in build.SOURCES:
        (tmp_path / name).write_bytes((build.HOME / name).read_bytes() + b"\n")
    monkeypatch.setattr(build, "HOME", tmp_path)
    names.add(key_of(VARIANTS[0], "g++ 12"))
    assert len(names) == 2 * len(VARIANTS) + 3


def test_where_builds_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BTSR_CACHE", "/a")
    assert cache_folder() == Path("/a/kernels")
    monkeypatch.delenv("BTSR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_folder() == Path("/b/btsr/kernels")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "btsr" / "kernels"
