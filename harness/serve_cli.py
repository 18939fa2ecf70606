"""`btsr-recommend`: use a trained model on histories. Heavy libraries are imported inside the command."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from harness.config import Profile, file_key, is_file
from harness.data.options import DataDirOption
from harness.errors import BtsrError, ConfigError, told
from harness.paths import RunPaths

app = typer.Typer(name="btsr-recommend", pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command(no_args_is_help=True)
def recommend(
    histories: Annotated[
        Path, typer.Option(help="csv, parquet or jsonl file with columns user, item and, if you like, timestamp")
    ],
    output: Annotated[Path, typer.Option(help="csv, parquet or jsonl file to write: user, rank, item, score")],
    study: Annotated[str | None, typer.Option(help="take the best model of this study, chosen on validation")] = None,
    trial: Annotated[str | None, typer.Option(help="take this trial: its key, or its beginning")] = None,
    mode: Annotated[
        Literal["precise", "balanced", "diverse"] | None,
        typer.Option(
            help="where on the front of validation ndcg@10 and cov@10: best ndcg@10; most coverage at 99 % or at 90 % "
            "of it",
            show_default="precise",
        ),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="of a study with several")] = None,
    method: Annotated[str | None, typer.Option(help="only this method, such as bt_sr")] = None,
    profile: Annotated[Profile | None, typer.Option(help="of a study with both")] = None,
    k: Annotated[int, typer.Option(min=1, help="items for each user")] = 10,
    skip_unknown: Annotated[
        bool, typer.Option("--skip-unknown", help="leave out items that the model was not trained on")
    ] = False,
    out: Annotated[Path, typer.Option(help="folder of the sweep, with OUT/checkpoints and OUT/btsr.db")] = Path("runs"),
    db: Annotated[str | None, typer.Option(help="results database elsewhere: a file or URL")] = None,
    data_dir: DataDirOption = None,
    device: Annotated[str, typer.Option(help="torch device")] = "cpu",
    quiet: Annotated[bool, typer.Option("--quiet", help="say nothing but errors")] = False,
) -> None:
    """Write the best K items, not yet in the history, for every user of a file.

    The weights must have been kept: btsr-sweep --keep-checkpoints.
    """
    if (study is None) == (trial is None):
        raise ConfigError("name either --study, to use its best model, or --trial with a key")
    if trial is not None and any(given is not None for given in (mode, dataset, method, profile, db)):
        raise ConfigError("--trial names the model: leave out --mode, --dataset, --method, --profile and --db")
    if output.resolve() == histories.resolve():
        raise ConfigError(f"--output {output} is the file of the histories, which would be lost: name another file")
    named = file_key(dataset) if dataset and is_file(dataset) else dataset
    from harness.histories import known_format, read_histories, write_recommendations

    known_format(output)
    asked = read_histories(histories)
    paths = RunPaths(data_dir=data_dir, work_dir=out, database=db)
    from harness.serve import choose_trial, full_key, kept_keys, load_model, open_results, without_checkpoint

    if study is not None:
        kept = kept_keys(paths)
        with open_results(paths) as store:
            how = mode or "precise"
            choice = choose_trial(store, study, mode=how, dataset=named, profile=profile, method=method, kept=kept)
            typed = store.provenance(choice.row.key).command
        key, aux = choice.row.key, choice.row.spec.aux
        if not quiet:
            dial = f", alpha {aux.alpha:g}, lambda {aux.lam:g}" if aux.kind != "none" else ""
            numbers = ", ".join(f"{name}@{at} {value:.4f}" for (name, at), value in choice.valid.items())
            typer.echo(
                f"{how}: {choice.row.spec.method}{dial}, seed {choice.row.spec.seed}, trial {key} (validation "
                f"{numbers}; {choice.settings} settings compared"
                + (f"; the weights of {choice.passed_over} better seeds were not kept)" if choice.passed_over else ")"),
                err=True,
            )
        if key not in kept:
            raise without_checkpoint(choice.row, study, paths, typed)
    else:
        assert trial is not None
        key = full_key(paths, trial)
    found = load_model(key, paths, device=device).recommend(asked, k=k, skip_unknown=skip_unknown)
    write_recommendations(output, found)
    if not quiet:
        users = len({row.user for row in found})
        left = (
            f", {len(asked) - users} of {len(asked)} users had no known or no unseen item" if users < len(asked) else ""
        )
        typer.echo(f"wrote {len(found)} recommendations for {users} users to {output}{left}", err=True)


def main() -> None:
    """Entry of the console script: an error of the user's is one line on stderr and exit code 2."""
    try:
        app()
    except BtsrError as error:
        print(f"btsr-recommend: {told(error, '--out or --db')}", file=sys.stderr)
        sys.exit(2)
