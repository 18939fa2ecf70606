"""What the encoder of their own programs is worth to CL4SRec, DuoRec and EC4SRec (spec 4): with the common one, as in
table 2, and with theirs and their batch of 256, all else equal.

Everything that differs is switched at once; `btsr-report --effects --study originals` lists it. Their programs as a
whole cannot be had: they expand every prefix into an example with one prediction, at its last position, pad on the
right, and weigh the term by 0.1 against that one prediction; the eps of their norms is 1e-12. Here a sequence is an
example with a prediction at every position, the term has the weight of table 2 (`studies.points.CONTRAST_WEIGHT`), and
scaled embeddings, the norm behind the last block and its eps stay those of section 1.
"""

from harness.config import Study, StudyOptions
from studies.points import ORIGINAL_ENCODER
from studies.profiles import switched_trials, varied

DATASETS: tuple[str, ...] = ("ml1m", "beauty")
METHODS: tuple[str, ...] = ("cl4srec", "duorec", "ec4srec")
BATCH_SIZE = 256


def study(options: StudyOptions) -> Study:
    """Data sets x methods x both encoders x seeds; `reduced` keeps the first two seeds."""
    return Study(
        name="originals",
        title="Effect of the encoder of the baselines' own programs",
        specs=switched_trials(
            METHODS,
            options,
            lambda base: (base, varied(base, encoder=ORIGINAL_ENCODER, train={"batch_size": BATCH_SIZE})),
        ),
    )
