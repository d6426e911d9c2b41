from pathlib import Path
from typing import Any

import pytest
import yaml

from features.pool import chosen_features, feature_pool
from training.explaining.reason_map import MAP, WORDS, ReasonMapError, read_map, read_words


def test_every_feature_that_can_be_computed_has_exactly_one_concept() -> None:
    _, concepts = read_map(list(feature_pool()))
    assert sorted(name for concept in concepts for name in concept.features) == sorted(feature_pool())
    assert 28 <= len(concepts) <= 36


def test_the_map_shows_only_features_of_new_models() -> None:
    _, concepts = read_map(chosen_features())
    assert {feature for concept in concepts for feature in concept.shows.values()} <= set(chosen_features())


def test_the_expected_scores_are_no_concept_of_their_own() -> None:
    _, concepts = read_map(chosen_features())
    (scores,) = (concept for concept in concepts if "EXT_SOURCE_1_EXPECTED" in concept.features)
    assert {"EXT_SOURCE_1", "EXT_SOURCE_MEAN", "EXT_SOURCE_3_RESIDUAL"} <= set(scores.features)


def test_each_language_has_words_for_each_concept() -> None:
    _, concepts = read_map(chosen_features())
    assert set(read_words(concepts)) >= {"en", "fr"}


def changed_map(tmp_path: Path, change: Any) -> Path:
    document = yaml.safe_load(MAP.read_text())
    change({concept["code"]: concept for concept in document["concepts"]}, document["concepts"])
    file = tmp_path / "reasons.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda by, _: by["GENDER"].update(features=[]), r"CODE_GENDER \(no concept\): expected exactly one concept"),
        (lambda by, _: by["AGE"]["features"].append("CODE_GENDER"), "CODE_GENDER: in more than one concept"),
        (lambda by, _: by["AGE"]["features"].append("CARD_USED*"), r"CARD_USED_MEAN \(CARD_BALANCE and AGE\)"),
        (lambda by, _: by["AGE"]["features"].append("AGE_YEAR"), "no such features: AGE_YEAR"),
        (lambda by, _: by["AGE"]["shows"].update(other="AGE_YEAR"), "no such features: AGE_YEAR"),
        (
            lambda by, _: by["REGION"].update(direction="falling"),
            "REGION: the direction is falling; .*another one for REGION_RATING_CLIENT",
        ),
        (lambda by, _: by["REGION"].pop("direction"), "REGION: the direction is not given; .*another one for REGION_RATING_CLIENT"),
        (lambda by, _: by["REGION"].update(direction="up"), "the direction is 'up'; expected one of rising, falling"),
        (lambda by, _: by["AGE"].update(texts=1), "the concept AGE has the members"),
        (lambda by, _: by["AGE"].pop("can_act"), "the concept AGE has the members"),
        (lambda by, every: every.append(by["AGE"]), "a code occurs twice"),
    ],
)
def test_a_map_that_contradicts_the_features_is_refused(tmp_path: Path, change: Any, said: str) -> None:
    file = changed_map(tmp_path, change)
    with pytest.raises(ReasonMapError, match=said) as caught:
        read_map(chosen_features(), file)
    assert str(file) in str(caught.value)


def test_a_feature_outside_the_model_needs_no_concept_if_no_pattern_claims_it(tmp_path: Path) -> None:
    file = changed_map(tmp_path, lambda by, _: by["GENDER"].update(features=[]))
    _, concepts = read_map(["AMT_CREDIT"], file)
    assert [concept.features for concept in concepts if concept.features] == [("AMT_CREDIT",)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda words: words["reasons"].pop("AGE"), "the words and reasons.yaml differ in AGE"),
        (lambda words: words["reasons"].update(OTHER=words["reasons"]["AGE"]), "differ in OTHER"),
        (lambda words: words["reasons"]["AGE"].pop("unknown"), "KeyError"),
        (lambda words: words["reasons"]["AGE"].update(adverse="Your age[ of {year}]."), "AGE, adverse: year; expected only values"),
        (
            lambda words: words["reasons"]["AGE"].update(adverse="Your age of {age}."),
            "AGE, adverse: age; expected only values .* in brackets",
        ),
        (lambda words: words["reasons"]["AGE"].update(adverse="Your [age."), "brackets are not balanced"),
        (lambda words: words.update(language="nl"), "the language is 'nl'; expected the name of the file, 'en'"),
    ],
)
def test_words_that_do_not_fit_the_map_are_refused(tmp_path: Path, change: Any, said: str) -> None:
    words = yaml.safe_load((WORDS / "en.yaml").read_text())
    change(words)
    (tmp_path / "en.yaml").write_text(yaml.safe_dump(words))
    with pytest.raises(ReasonMapError, match=said):
        read_words(read_map(chosen_features())[1], tmp_path)


def test_a_folder_without_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReasonMapError, match="holds no words"):
        read_words((), tmp_path)
