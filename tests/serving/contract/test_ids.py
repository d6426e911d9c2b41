import uuid

from serving.contract.ids import new_prediction_ids


def test_prediction_ids_are_uuids_in_order_of_time() -> None:
    (first,) = new_prediction_ids(1, lambda: 1_799_999_999_999_999_999)
    (second,) = new_prediction_ids(1, lambda: 1_800_000_000_000_000_000)
    assert first < second
    assert first[:13].replace("-", "") == f"{1_799_999_999_999:012x}"
    many = new_prediction_ids(10_000)
    assert len({*many, first, second}) == 10_002
    assert {(uuid.UUID(one).version, uuid.UUID(one).variant) for one in many} == {(7, uuid.RFC_4122)}
    assert all(uuid.UUID(one).hex == one.replace("-", "") and len(one) == 36 for one in many)
    assert new_prediction_ids(0) == []
