"""The map from features to the concepts that an applicant understands, as a bundle holds it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, Self

from serving.reasons.contributions import ContributionTable
from serving.reasons.words import Words

FORMAT = 1  # of reasons.json


@dataclass(frozen=True)
class Concept:
    """What some features mean to an applicant; configs/reasons.yaml explains the members.

    Attributes
    ----------
    features : those of the model.
    shows : the feature whose value each placeholder of the words stands for.
    """

    code: str
    features: tuple[str, ...]
    can_act: bool
    direction: Literal["rising", "falling"] | None
    form: str | None
    shows: Mapping[str, str]

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """A stored concept."""
        return cls(**{**state, "features": tuple(state["features"])})


class Baseline(NamedTuple):
    """Whom an applicant is compared with.

    Attributes
    ----------
    kind : "near_threshold": applicants approved at or slightly better than the threshold; "training": those of the training data.
    applicants : how many.
    low, high : their PDs, from low to below high.
    """

    kind: Literal["near_threshold", "training"]
    applicants: int
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Reasons:
    """What a bundle holds to give reasons.

    Attributes
    ----------
    version : of configs/reasons.yaml.
    words : the catalogue of each language.
    offers : the content of configs/offers.yaml.
    table : the contributions; None if a tree is too large for a table. Then LightGBM computes them, against the training data.
    folds : the models of the cross-validation as text, for intervals; empty if there are none.
    """

    version: int
    baseline: Baseline
    concepts: tuple[Concept, ...]
    catalogues: Mapping[str, Mapping[str, Any]]
    offers: Mapping[str, Any]
    table: ContributionTable | None
    folds: tuple[str, ...] = ()

    @cached_property
    def words(self) -> dict[str, Words]:
        """The words by language."""
        return {language: Words(catalogue) for language, catalogue in self.catalogues.items()}

    def concept_positions(self, features: Sequence[str]) -> list[int]:
        """The position of the concept of each feature.

        Raises
        ------
        ValueError
            A feature has no concept, or more than one.
        """
        found = [[place for place, concept in enumerate(self.concepts) if name in concept.features] for name in features]
        wrong = [name for name, places in zip(features, found, strict=True) if len(places) != 1]
        if wrong:
            raise ValueError(f"features without exactly one concept: {', '.join(wrong)}")
        return [places[0] for places in found]

    def describe(self) -> dict[str, Any]:
        """The member `reasons` of `GET /model`."""
        concepts = [
            {"code": one.code, "form": one.form, "can_act": one.can_act, "direction": one.direction, "features": list(one.features)}
            for one in self.concepts
        ]
        return {"version": self.version, "baseline": self.baseline._asdict(), "languages": list(self.catalogues), "concepts": concepts}

    def to_dict(self) -> dict[str, Any]:
        """What the bundle stores besides the table."""
        concepts = [{**vars(concept), "shows": dict(concept.shows)} for concept in self.concepts]
        return {
            "format": FORMAT,
            "version": self.version,
            "baseline": self.baseline._asdict(),
            "concepts": concepts,
            "words": self.catalogues,
            "offers": self.offers,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any], table: ContributionTable | None, folds: Sequence[str] = ()) -> Self:
        """Restore what a bundle stores.

        Raises
        ------
        KeyError, TypeError, ValueError
            It has another format, or lacks something.
        """
        if state["format"] != FORMAT:
            raise ValueError(f"reasons of format {state['format']!r}; this release reads {FORMAT}")
        concepts = tuple(Concept.from_dict(concept) for concept in state["concepts"])
        made = cls(state["version"], Baseline(**state["baseline"]), concepts, state["words"], state["offers"], table, tuple(folds))
        if not made.words:  # reads the words, so that a bad catalogue is found at the start
            raise ValueError("reasons without words")
        return made
