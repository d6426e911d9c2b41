"""What a request asks for beside the predictions: reasons, in which language, in which detail."""

from collections.abc import Mapping
from typing import Any

from configs.settings import ReasonsSettings
from serving.contract.fields import kind
from serving.contract.rows import Asked
from serving.errors import Errors, Invalid, ServiceError
from serving.reasons.concepts import Reasons

REASONS = ("reasons", "language")  # members of the bodies of /predict and /predict/batch
EXPLAIN = ("language", "detail")  # of /explain
NO_REASONS = "the served model gives no reasons: an earlier release trained it; train again"


class Asking:
    """Reads these members.

    Parameters
    ----------
    reasons : those of the model; None if it gives none.
    settings : the language of an answer whose request names none, and whether declines get their reasons unless a request says otherwise.
    """

    def __init__(self, reasons: Reasons | None = None, settings: ReasonsSettings | None = None) -> None:
        self._languages = tuple(reasons.words) if reasons else ()
        self._language = settings.language if settings else "en"
        self.usual = Asked(self._language) if settings and settings.on_decline else None

    def of_prediction(self, document: Any, errors: Errors) -> Asked | None:
        """What a body of /predict or /predict/batch asks for; appends to `errors`.

        Raises
        ------
        ServiceError
            409: it asks for reasons, and the model gives none.
        """
        if not isinstance(document, dict):
            return None
        reasons, language = document.get("reasons"), self._read_language(document, errors)
        if reasons is not None and not isinstance(reasons, bool):
            errors.append(Invalid("/reasons", f"expected true or false, got {kind(reasons)}"))
        elif reasons or (reasons is None and self.usual):
            self._check()
            return Asked(language)
        return None

    def of_explanation(self, document: Any, errors: Errors) -> Asked | None:
        """What a body of /explain asks for; as `of_prediction`."""
        self._check()
        if not isinstance(document, dict):
            return None
        detail = document.get("detail")
        if detail not in (None, "features", "concepts"):
            errors.append(Invalid("/detail", 'expected "features", "concepts" or null'))
        return Asked(self._read_language(document, errors), whole=True, by_feature=detail == "features")

    def _read_language(self, document: Mapping[str, Any], errors: Errors) -> str:
        language = document.get("language")
        if language is None or language in self._languages:
            return language or self._language
        if self._languages:
            errors.append(Invalid("/language", f"expected one of {', '.join(self._languages)}, or null"))
        return self._language

    def _check(self) -> None:
        if not self._languages:
            raise ServiceError(409, NO_REASONS)
