"""Reads configs/reasons.yaml and configs/words, and checks them against the features of a model."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from configs.errors import UserError
from configs.settings import CONFIGS
from features.pool import feature_pool
from features.schema import read_yaml
from serving.reasons.concepts import Concept
from serving.reasons.words import FORMS, Words, placeholders, required
from training.constraints import SIGNS, directions

MAP, WORDS = CONFIGS / "reasons.yaml", CONFIGS / "words"
MEMBERS = {"code", "features", "can_act", "direction", "form", "shows"}


class ReasonMapError(UserError):
    """The map of reasons or its words cannot be used. The message names the file, the place and what was expected."""


def read_map(names: Sequence[str], file: Path = MAP) -> tuple[int, tuple[Concept, ...]]:
    """The version of the map, and the concepts of a model with these features, each with its own.

    Raises
    ------
    ReasonMapError
        A feature has not exactly one concept, a direction contradicts configs/monotone.yaml, or the file is wrong in another way.
    """
    document = read_yaml(file)
    given = document.get("concepts", [])
    for concept in given:
        if not set(concept) <= MEMBERS or not {"code", "features", "can_act"} <= set(concept):
            raise ReasonMapError(f"{file}: the concept {concept.get('code')} has the members {sorted(concept)}; expected {sorted(MEMBERS)}")
    codes = [concept["code"] for concept in given]
    if len(set(codes)) < len(codes):
        raise ReasonMapError(f"{file}: a code occurs twice; expected each once")
    _check_names(given, file)
    of = _concepts_of(names, given, file)
    return int(document["version"]), tuple(
        Concept(
            code=concept["code"],
            features=tuple(name for name in names if of[name] == concept["code"]),
            can_act=bool(concept["can_act"]),
            direction=_direction(concept, [name for name in feature_pool() if of.get(name) == concept["code"]], file),
            form=concept.get("form"),
            shows=dict(concept.get("shows", {})),
        )
        for concept in given
    )


def read_words(concepts: Sequence[Concept], folder: Path = WORDS) -> dict[str, Mapping[str, Any]]:
    """The catalogue of each language that has a file in the folder.

    Raises
    ------
    ReasonMapError
        A catalogue lacks a sentence or has one too many, or a sentence names a value that its concept does not show.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for file in sorted(folder.glob("*.yaml")):
        catalogue = read_yaml(file)
        try:
            words = Words(catalogue)
        except (KeyError, TypeError, ValueError) as error:
            raise ReasonMapError(f"{file}: {error!r}; expected the members of the other files of the folder") from None
        if words.language != file.stem:
            raise ReasonMapError(f"{file}: the language is {words.language!r}; expected the name of the file, {file.stem!r}")
        if missing := {concept.code for concept in concepts} ^ set(words.sentences):
            raise ReasonMapError(f"{file}: the words and {MAP.name} differ in {', '.join(sorted(missing))}")
        for concept in concepts:
            for form in FORMS:
                sentence = words.sentences[concept.code][form]
                if wrong := (placeholders(sentence) - set(concept.shows)) | required(sentence):
                    expected = "only values that the concept shows, in brackets"
                    raise ReasonMapError(f"{file}: {concept.code}, {form}: {', '.join(sorted(wrong))}; expected {expected}")
        found[file.stem] = catalogue
    if not found:
        raise ReasonMapError(f"{folder} holds no words; expected a file for each language, such as en.yaml")
    return found


def _check_names(given: Sequence[Mapping[str, Any]], file: Path) -> None:
    exact = [name for concept in given for name in concept["features"] if "*" not in name]
    shown = [name for concept in given for name in concept.get("shows", {}).values()]
    if unknown := sorted({*exact, *shown} - set(feature_pool())):
        raise ReasonMapError(f"{file}: no such features: {', '.join(unknown)}; expected features that can be computed")
    if twice := sorted({name for name in exact if exact.count(name) > 1}):
        raise ReasonMapError(f"{file}: {', '.join(twice)}: in more than one concept; expected one")


def _concepts_of(names: Sequence[str], given: Sequence[Mapping[str, Any]], file: Path) -> dict[str, str]:
    """The code of the concept of each feature of the pool that has one; these features must."""
    of: dict[str, str] = {}
    wrong = []
    for name in {**feature_pool(), **dict.fromkeys(names)}:
        exact = [concept["code"] for concept in given if name in concept["features"]]
        codes = exact or [concept["code"] for concept in given if any(fnmatchcase(name, pattern) for pattern in concept["features"])]
        if len(codes) == 1:
            of[name] = codes[0]
        elif name in names or codes:
            wrong.append(f"{name} ({' and '.join(codes) or 'no concept'})")
    if wrong:
        raise ReasonMapError(f"{file}: {', '.join(wrong)}: expected exactly one concept for each feature")
    return of


def _direction(concept: Mapping[str, Any], features: Sequence[str], file: Path) -> Any:
    direction = concept.get("direction")
    if direction is not None and direction not in SIGNS:
        raise ReasonMapError(f"{file}: {concept['code']}: the direction is {direction!r}; expected one of {', '.join(SIGNS)}, or none")
    other = [name for name in features if directions().get(name, SIGNS.get(str(direction), 0)) != SIGNS.get(str(direction), 0)]
    if other:
        said = f"{file}: {concept['code']}: the direction is {direction or 'not given'}"
        raise ReasonMapError(f"{said}; configs/monotone.yaml gives another one for {', '.join(other)}")
    return direction
