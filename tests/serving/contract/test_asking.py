from typing import Any

import pytest
from parsed import body

from configs.settings import load_settings
from serving.bundle import Bundle
from serving.contract.asking import Asking
from serving.contract.requests import RequestParser
from serving.contract.rows import Asked
from serving.errors import ServiceError

APPLICATION = {"application": {"AMT_CREDIT": 450000}}


def parser(bundle: Bundle, **settings: Any) -> RequestParser:
    return RequestParser(bundle.features, 10, Asking(bundle.reasons, load_settings().reasons.model_copy(update=settings)))


def vector(bundle: Bundle) -> list[None]:
    return [None] * len(bundle.features.names)


def test_nothing_is_explained_unless_it_is_asked_for(bundle: Bundle) -> None:
    own = parser(bundle)
    assert own.parse_one(body(APPLICATION)).asked is None
    assert own.parse_one(body({**APPLICATION, "reasons": False})).asked is None
    assert own.parse_one(body({**APPLICATION, "reasons": None, "language": None})).asked is None
    assert own.parse_one(body({"features": vector(bundle)})).asked is None
    assert own.parse_one(body({**APPLICATION, "reasons": True})).asked == Asked("en")
    assert own.parse_one(body({"features": vector(bundle), "reasons": True, "language": "fr"})).asked == Asked("fr")
    assert own.parse_explain(body(APPLICATION)).asked == Asked("en", whole=True)
    assert own.parse_explain(body({"features": vector(bundle), "detail": "features"})).asked == Asked("en", whole=True, by_feature=True)


def test_a_batch_asks_once_for_all_its_rows(bundle: Bundle) -> None:
    own = parser(bundle)
    bodies: list[dict[str, Any]] = [{"applications": [APPLICATION, {"application": 1}]}, {"features": [vector(bundle)] * 2}]
    for one in bodies:
        for more, asked in (({}, None), ({"reasons": True}, Asked("en")), ({"reasons": True, "language": "fr"}, Asked("fr"))):
            assert {row.asked for row in own.parse_batch(body({**one, **more})) if row and not row.errors} == {asked}


def test_the_setting_makes_reasons_of_declines_the_default_and_names_their_language(bundle: Bundle) -> None:
    own = parser(bundle, on_decline=True, language="fr")
    assert own.parse_one(body(APPLICATION)).asked == Asked("fr")
    assert own.parse_one(body({"features": vector(bundle)})).asked == Asked("fr")
    assert own.parse_one(body({**APPLICATION, "reasons": False})).asked is None
    assert own.parse_one(body({**APPLICATION, "language": "en"})).asked == Asked("en")
    (row,) = [row for row in own.parse_batch(body({"features": [vector(bundle)]})) if row]
    assert row.asked == Asked("fr")


def test_a_model_without_reasons_says_so(bundle: Bundle) -> None:
    own = RequestParser(bundle.features, 10)
    assert own.parse_one(body({**APPLICATION, "reasons": False})).asked is None
    for ask in (
        lambda: own.parse_one(body({**APPLICATION, "reasons": True})),
        lambda: own.parse_explain(body(APPLICATION)),
        lambda: list(own.parse_batch(body({"applications": [APPLICATION], "reasons": True}))),
    ):
        with pytest.raises(ServiceError, match=r"gives no reasons: .* train again") as caught:
            ask()
        assert caught.value.status == 409


@pytest.mark.parametrize("text", [b'{"application": {}, "language": "en", "language": "fr"}', b"[]", b'{"application": {}, "reasons": 1}'])
def test_a_body_that_is_wrong_otherwise_is_refused(bundle: Bundle, text: bytes) -> None:
    own = parser(bundle)
    for parse in (own.parse_one, own.parse_explain):
        with pytest.raises(ServiceError) as caught:
            parse(text)
        assert caught.value.status == 422
