"""The reasons of a new model: its baseline, its table of contributions, its concepts."""

from collections.abc import Sequence

import numpy as np

from configs.settings import CONFIGS
from features.history import Matrix
from features.schema import read_yaml
from features.transform import FeatureTransform
from serving.calibration import Calibration
from serving.reasons.change import Offers
from serving.reasons.concepts import Baseline, Reasons
from serving.reasons.contributions import ContributionTable
from training.aliases import Positions, Say, Values
from training.explaining.reason_map import ReasonMapError, read_map, read_words
from training.explaining.table import TooLargeError, background_shares, contribution_table
from training.explaining.trees import UnreadableTreeError, read_trees

OFFERS = CONFIGS / "offers.yaml"
NEAR = 0.75  # of the threshold: from here up to it, an applicant is approved at or slightly better than the threshold
FEWEST = 100  # applicants of a baseline


def make_reasons(
    model: str,
    features: FeatureTransform,
    calibration: Calibration,
    say: Say,
    *,
    matrix: Matrix,
    pd: Values,
    threshold: float,
    folds: Sequence[str] = (),
) -> Reasons:
    """The reasons of a model.

    The baseline is the first method of Regulation B, comment 9(b)(2)-5: the applicants who were approved at or slightly better than the
    threshold. Where the trees are too large for a table, LightGBM's `pred_contrib` computes contributions against the training data.

    Parameters
    ----------
    matrix : shape (rows, features), the applicants of the training data.
    pd : shape (rows,), their PDs by this model.
    folds : the models of the cross-validation as text.

    Raises
    ------
    ReasonMapError
        A feature has not exactly one concept, or the map or its words are wrong in another way.
    """
    version, concepts = read_map(features.names)
    words, offers = read_words(concepts), read_yaml(OFFERS)
    try:
        fields = Offers(offers, features.table).fields
    except (KeyError, TypeError, ValueError) as error:
        raise ReasonMapError(f"{OFFERS}: {error!r}") from None
    if silent := [f"{name} in {language}" for name in fields for language in words if name not in words[language]["change"]["offers"]]:
        raise ReasonMapError(f"{OFFERS}: no words for {', '.join(silent)}; expected some in each file of configs/words")
    near = near_threshold(pd, threshold)
    baseline = Baseline("near_threshold", len(near), float(pd[near].min()), float(np.nextafter(pd[near].max(), 1)))
    table: ContributionTable | None = None
    try:
        table = contribution_table(read_trees(model), len(features.names), calibration, background_shares(matrix[near]))
    except (TooLargeError, UnreadableTreeError) as error:
        say(
            f"warning: {error}; so reasons compare applicants with all of the training data, by LightGBM, which takes several times as long"
        )
        baseline = Baseline("training", len(pd), float(pd.min()), float(np.nextafter(pd.max(), 1)))
    say(
        f"reasons: {len(concepts)} concepts, compared with {baseline.applicants:,} applicants of PD {baseline.low:.3f} to {baseline.high:.3f}"
    )
    return Reasons(version, baseline, concepts, words, offers, table, tuple(folds))


def near_threshold(pd: Values, threshold: float) -> Positions:
    """The positions of the baseline's applicants: those with a PD from NEAR times the threshold to below it.

    Fewer than FEWEST would say little, and could give single persons away. Then the baseline is the FEWEST approved applicants nearest to
    the threshold; if fewer were approved, declined ones nearest to it fill up.
    """
    found = np.flatnonzero((pd >= NEAR * threshold) & (pd < threshold))
    if len(found) >= FEWEST:
        return found
    order = np.lexsort((np.abs(pd - threshold), pd >= threshold))
    return np.sort(order[:FEWEST])
