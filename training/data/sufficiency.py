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
    problems = []
    if len(defaulted) < rows:
        problems.append(
            f"{len(defaulted):,} applications, but {rows:,} are needed: two leaves of {leaf} (training.lightgbm.min_data_in_leaf) "
            f"on {folds - 1} of {folds} folds"
        )
    problems += [f"{problem} (training.folds)" for problem in _too_few_outcomes(defaulted, folds)]
    if problems:
        raise DataError(f"too little to learn from: {'; '.join(problems)}")


def check_history(defaulted: Labels, folds: int) -> None:
    """Refuse too few outcomes among the applicants with a known history. No such applicant means no history, which is allowed.

    Raises
    ------
    DataError
        There are too few. The message says how many are needed.
    """
    if len(defaulted) and (problems := _too_few_outcomes(defaulted, folds)):
        raise DataError(
            f"too little to learn from among the {len(defaulted):,} applicants whose history is known: {'; '.join(problems)}; "
            "leave the history tables out, or add those of more applicants"
        )


def _too_few_outcomes(defaulted: Labels, folds: int) -> list[str]:
    bad = int((defaulted == 1).sum())
    needed = MIN_OUTCOMES * folds
    return [
        f"{count:,} {name}, but {needed:,} are needed: {MIN_OUTCOMES} in each of {folds} folds"
        for name, count in (("defaults", bad), ("repaid loans", len(defaulted) - bad))
        if count < needed
    ]
