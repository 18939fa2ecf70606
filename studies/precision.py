"""What bfloat16 matrix products cost in quality: everything else equal, for SASRec (CE) and BT-SR."""

from harness.config import Study, StudyOptions
from studies.profiles import switched_trials, varied

DATASETS: tuple[str, ...] = ("ml1m", "beauty")
METHODS: tuple[str, ...] = ("sasrec_ce", "bt_sr")


def study(options: StudyOptions) -> Study:
    """Data sets x methods x both precisions x seeds, the one asked for as the base; `reduced` keeps two seeds."""
    other = "fp32" if options.precision == "bf16" else "bf16"
    return Study(
        name="precision",
        title="Effect of the precision",
        specs=switched_trials(METHODS, options, lambda base: (base, varied(base, train={"precision": other}))),
    )
