import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.contract.documents import MAX_EXPLAINED, MAX_SEARCHED, explained, repeated, too_many
from serving.errors import MOST_ERRORS

BODY = '{"client_id": "Müller", "application": {}}'


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "it is empty"),
        (b" \r\n\t", "it is empty"),
        (BODY.encode("utf-16"), "it is UTF-16"),
        (BODY.encode("utf-16-be"), "it is UTF-16"),
        (BODY.encode("utf-32"), "it is UTF-32"),
        (BODY.encode("utf-32-le"), "it is UTF-32"),
        (BODY.encode("latin-1"), "byte 16 is 0xfc, which is not UTF-8 but may be Latin-1"),
        (BODY.encode("cp1252") + b" " * MAX_EXPLAINED, "byte 16 is 0xfc, which is not UTF-8 but may be Latin-1"),
        (b"\x1f\x8b\x08\x00", "it is packed by gzip, which the header Content-Encoding must say"),
        (b'{"a":\n {"b": 1,, "c": 2}}', "expecting property name enclosed in double quotes at line 2, column 10"),
        (b'{"a": 1}{"a": 1}', "extra data at line 1, column 9"),
        (b'{"a": 1,,}' + b" " * MAX_EXPLAINED, "object keys must be strings (byte 8)"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b'{"a": NaN}', "it holds NaN, Infinity, a number beyond 64-bit floats or half a surrogate pair"),
        (b'{"a": %b, "b": NaN}' % (b"1" * 5000), "it holds a number of too many digits"),
    ],
    ids=lambda value: str(value[:20]),
)
def test_what_is_not_json_is_named_with_its_place(body: bytes, why: str) -> None:
    answer = explained(body, lambda document: [])
    assert (answer.status, answer.detail) == (400, f"The body is not valid UTF-8 JSON: {why}.")


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet='a:\\"ü{}, ', max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='ab:\\"', max_size=2), inner, max_size=3),
    max_leaves=12,
)


@given(values, st.booleans(), st.sampled_from([None, 1]))
def test_only_what_repeats_is_found(value: object, escape: bool, indent: int | None) -> None:
    text = json.dumps({"x": value}, ensure_ascii=escape, indent=indent).encode()
    assert repeated(text, json.loads(text), "/p", members=1) == []
    twice = b'{"x": {"n": %b, "n": %b}}' % (text, text)
    assert [error.pointer for error in repeated(twice, json.loads(twice), "/p", members=2)] == ["/p/x/n"]


def test_of_many_objects_that_repeat_members_some_are_named_and_of_a_long_text_none() -> None:
    text = b"[%b]" % b",".join([b'{"a": 1, "a": 2}'] * 1000)
    assert [error.pointer for error in repeated(text, json.loads(text), "/p")] == [f"/p/{index}/a" for index in range(MOST_ERRORS)]
    text += b" " * MAX_SEARCHED
    assert [error.pointer for error in repeated(text, json.loads(text), "/p")] == ["/p"]


def test_values_are_counted_by_commas_and_opening_brackets() -> None:
    assert too_many(b'[1,[],{},","]', "/p", 7) == []
    assert [error.pointer for error in too_many(b'[1,[],{},","]', "/p", 6)] == ["/p"]
    assert too_many(msgspec.Raw(b"[1,2]"), "/p", 2) == []
    assert too_many(msgspec.Raw(b"[1,2]"), "/p", 1)
    assert too_many([1, 2], "/p", 1) == []
