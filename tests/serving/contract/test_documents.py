import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.contract import documents
from serving.contract.documents import DECODE_ERRORS, MAX_EXPLAINED, MAX_SEARCHED, MOST_EXPLAINED, STEP, explained, repeated, too_many
from serving.contract.frames import MOST_BYTES, MOST_FRAME_BYTES, Items, read_frame, read_item, split, too_large
from serving.errors import MOST_ERRORS, ServiceError

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
    assert too_many(b"[1,2]", "/p", 2) == []
    assert too_many(b"[1,2]", "/p", 1)
    assert too_many([1, 2], "/p", 1) == []


def test_an_item_is_limited_in_bytes_too() -> None:
    assert too_large(b"1" * MOST_BYTES, "/p") == []
    assert [error.pointer for error in too_large(b"1" * (MOST_BYTES + 1), "/p")] == ["/p"]
    assert too_large("1" * (MOST_BYTES + 1), "/p") == []
    for large in (b"[" + b"1," * MOST_BYTES, b'"' + b"a" * MOST_BYTES):
        with pytest.raises(DECODE_ERRORS):
            too_large(large, "/p")


def frame_of(text: bytes) -> dict[str, object]:
    """The frame of a text with every item decoded."""
    frame = read_frame(text, list(split(text)))
    return {name: [read_item(item)[0] for item in value] if isinstance(value, Items) else value for name, value in frame.items()}


def shallow(document: dict[str, object]) -> dict[str, object]:
    return {name: {} if isinstance(value, dict) else value for name, value in document.items()}


tricky = st.text(alphabet='a"\\[]{},: \n\tü\u2028\U0001f600', max_size=6)
nested = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | tricky,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(tricky, inner, max_size=3),
    max_leaves=20,
)


@settings(deadline=None)
@given(st.dictionaries(tricky, nested, max_size=4), st.booleans(), st.sampled_from([None, 1]), st.integers(1, 40), st.data())
def test_a_frame_that_is_split_is_the_document_wherever_a_step_ends(
    document: dict[str, object], escape: bool, indent: int | None, step: int, data: st.DataObject
) -> None:
    text = json.dumps(document, ensure_ascii=escape, indent=indent).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "STEP", step)
        assert frame_of(text) == shallow(document)
        frame, raw = read_frame(text, list(split(text))), msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        for name, items in frame.items():
            if isinstance(items, Items):  # nothing of the array's text is lost
                assert len(items) == len(msgspec.json.decode(raw[name]))
                assert b",".join(items).strip() == bytes(raw[name])[1:-1].strip()
        place = data.draw(st.integers(0, len(text) - 1))
        damaged = text[:place] + data.draw(st.sampled_from([b"", b'"', b"\\", b"[", b"]", b"{", b"}", b",", b" "])) + text[place + 1 :]
        try:
            expected = json.loads(damaged)
        except ValueError:
            expected = None
        try:
            found = frame_of(damaged)
        except (*DECODE_ERRORS, ServiceError):
            found = None
        if isinstance(expected, dict) and found is not None:
            assert found == shallow(expected)
        elif found is not None:  # the damage is in an object of the frame, which has no members: no such member is asked for
            assert {} in found.values()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"[]",
        b'"{"',
        b"{",
        b'{"a": [',
        b'{"a": [}',
        b'{"a": [1]',
        b'{"a": [1]}}',
        b'{"a": [1]} x',
        b'{"a": "',
        b"{]",
        b"\x0b{}",
        b"{}\x0c",
        b'{"a": 1\\',
    ],
)
def test_what_is_no_object_has_no_frame(text: bytes) -> None:
    with pytest.raises(DECODE_ERRORS):
        read_frame(text, list(split(text)))


@pytest.mark.parametrize("items", [b"1,]", b",1]", b"1 2]", b'"\\"]', b'\\"a,b\\"]', b"[1}]", b"{1]]", b'"a""b"]', b",]", b"\x0b]"])
def test_an_item_that_is_no_json_is_found_when_it_is_decoded(items: bytes) -> None:
    with pytest.raises(DECODE_ERRORS):
        frame_of(b'{"a": [%b}' % items)


@pytest.mark.slow
def test_an_array_may_be_long_and_what_stands_beside_the_items_may_not() -> None:
    items = [[], "]", {"a": [1, 2]}, 'x"\\', None] * STEP
    text = json.dumps({"a": items, "b": [], "c": {"d": items[:100]}}).encode()
    assert frame_of(text) == {"a": items, "b": [], "c": {}}
    text = b'{"a": "%b"}'
    longest = MOST_FRAME_BYTES - len(text % b"")
    assert frame_of(b" " * STEP + text % (b"x" * longest) + b" " * STEP) == {"a": "x" * longest}
    for longer in (text % (b"x" * (longest + 1)), b'{"a": [1]%b}' % (b', "a": []' * MOST_FRAME_BYTES)):
        with pytest.raises(ServiceError, match="holds more than 100,000 bytes beside the items of its arrays") as caught:
            frame_of(longer)
        assert caught.value.status == 422


@pytest.mark.parametrize(("text", "given"), [(b"[1]", []), (b'"a"', ""), (b"7", 7), (b"null", None)])
def test_of_a_long_text_the_kind_is_told(text: bytes, given: object) -> None:
    seen: list[object] = []
    explained(text + b" " * MAX_EXPLAINED, lambda document: seen.append(document) or [])  # type: ignore[func-returns-value]
    assert seen == [given]


def test_of_a_text_with_many_values_no_value_is_looked_for() -> None:
    for count, looked in ((MOST_EXPLAINED - 2, True), (MOST_EXPLAINED, False)):
        seen: list[object] = []
        answer = explained(b'{"a": [%bNaN]}' % (b"1," * count), lambda document, seen=seen: seen.append(document) or [])  # type: ignore[misc]
        assert bool(seen) is looked
        assert answer.status == 400
