"""Whether there are enough applications and outcomes to learn from."""

from configs.settings import TrainingSettings
from training.aliases import Labels
from training.data.errors import DataError

MIN_OUTCOMES = 10  # defaults, and repaid loans, in each fold; fewer cannot show how good its PDs are


def check_enough(defaulted: Labels, options: TrainingSettings) -> None:
    """Refuse too few applications or outcomes, before anything is fitted.

    Raises
    ------
    DataError
        There are too few. The message says how many the settings need.
    """
    # a tree learns on all folds but one, and splits only if both sides can hold min_data_in_leaf
    folds, leaf = options.folds, options.lightgbm.min_data_in_leaf
    rows = -(-2 * leaf * folds // (folds - 1))
    bad = int((defaulted == 1).sum())
    problems = []
    if len(defaulted) < rows:
        problems.append(
            f"{len(defaulted):,} applications, but {rows:,} are needed: two leaves of {leaf} (training.lightgbm.min_data_in_leaf) "
            f"on {folds - 1} of {folds} folds"
        )
    for name, count in (("defaults", bad), ("repaid loans", len(defaulted) - bad)):
        if count < MIN_OUTCOMES * folds:
            problems.append(
                f"{count:,} {name}, but {MIN_OUTCOMES * folds:,} are needed: {MIN_OUTCOMES} in each of {folds} folds (training.folds)"
            )
    if problems:
        raise DataError(f"too little to learn from: {'; '.join(problems)}")
