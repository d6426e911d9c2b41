import contextlib
import os
import shutil
from pathlib import Path

import bentoml
import pytest
from running import use_models
from small import small_training
from stopping import Killed, stop_at

from serving.bundle import BundleError, MissingBundleError
from serving.journal import JournalError, champions, journal_path, read_journal
from serving.model_store import champion, find_in_store, save_to_store
from serving.promotion import promote

pytestmark = pytest.mark.model
NAME = "m"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The folder of an empty model store of its own."""
    return use_models(tmp_path / "models")


def version(seed: int) -> str:
    return small_training(seed).bundle.version


def save(seed: int, **options: str) -> str:
    save_to_store(small_training(seed).bundle, NAME, **options)  # type: ignore[arg-type]
    return version(seed)


def events(store: Path) -> list[tuple[str, str]]:
    return [(event.action, event.version) for event in read_journal(journal_path(store, NAME)) or []]


def served() -> str:
    return find_in_store(NAME, "champion").name


def save_as_an_earlier_release(store: Path, seed: int) -> str:
    """The entry, and BentoML's pointer to the newest, but no journal."""
    save(seed)
    journal_path(store, NAME).unlink()
    (store / NAME / "latest").write_text(version(seed))
    return version(seed)


def test_a_saved_model_is_a_candidate_until_it_is_promoted(store: Path) -> None:
    first = save(0)
    with pytest.raises(BundleError, match=f"no version of m is promoted; .* `credit-scoring promote {first} --reason TEXT`") as caught:
        served()
    assert not isinstance(caught.value, MissingBundleError)  # or `train --if-missing` would train over it
    assert promote(NAME, first, "it is better") == (first, None)
    second = save(1)
    assert served() == first == champion(NAME)
    assert find_in_store(NAME, second).name == second
    assert promote(NAME, second, "it is better still") == (second, first)
    assert served() == second
    assert events(store) == [("train", first), ("promote", first), ("train", second), ("promote", second)]
    last = (read_journal(journal_path(store, NAME)) or [])[-1]
    assert (last.reason, last.before, last.by.partition("@")[2]) == ("it is better still", first, os.uname().nodename)


def test_the_first_model_may_be_promoted_as_it_is_saved_but_no_later_one(store: Path) -> None:
    first = save(0, promote_first="the first")
    save(1, promote_first="the first")
    assert served() == first
    assert events(store) == [("train", first), ("promote", first), ("train", version(1))]


def test_rolling_back_goes_one_champion_further_each_time(store: Path) -> None:
    first, second, third = (save(seed) for seed in range(3))
    for one in (first, second, third):
        promote(NAME, one, "newer")
    assert promote(NAME, None, "worse") == (second, third)
    assert promote(NAME, None, "worse") == (first, second)
    with pytest.raises(BundleError, match=f"m has had no champion before {first}"):
        promote(NAME, None, "worse")
    promote(NAME, third, "again")
    assert promote(NAME, None, "worse") == (first, third)


def test_promoting_the_champion_changes_nothing(store: Path) -> None:
    first = save(0, promote_first="the first")
    before = journal_path(store, NAME).read_bytes()
    assert promote(NAME, first, "again") == (first, first)
    assert journal_path(store, NAME).read_bytes() == before


def test_a_store_of_an_earlier_release_serves_its_newest_model_until_one_is_promoted(store: Path) -> None:
    old = save_as_an_earlier_release(store, 0)
    assert served() == old
    assert not journal_path(store, NAME).exists()
    new = save(1)
    assert served() == old
    assert events(store) == [("adopt", old), ("train", new)]
    promote(NAME, new, "newer")
    assert promote(NAME, None, "worse") == (old, new)


def test_bentoml_packs_the_champion(store: Path) -> None:
    first, second = save(0, promote_first="the first"), save(1)
    assert bentoml.models.get(f"{NAME}:latest").tag.version == first
    promote(NAME, second, "newer")
    assert bentoml.models.get(f"{NAME}:latest").tag.version == second


def test_a_champion_that_was_deleted_is_not_replaced_in_silence(store: Path) -> None:
    first, second = save(0, promote_first="the first"), save(1)
    bentoml.models.delete(f"{NAME}:{first}")
    with pytest.raises(BundleError, match=f"the champion m:{first} is not in the model store; promote another version"):
        served()
    promote(NAME, second, "the first is gone")
    assert served() == second
    bentoml.models.delete(f"{NAME}:{second}")
    assert [event for event in events(store) if event[0] == "promote"] == [("promote", first), ("promote", second)]


@pytest.mark.parametrize("reason", ["", "  ", "a\nb", "\x1b[2J", "x" * 1001])
def test_a_reason_is_a_line_of_text(store: Path, reason: str) -> None:
    first = save(0)
    with pytest.raises(JournalError, match="expected a line of text of 1 to 1000 characters"):
        promote(NAME, first, reason)
    assert champion(NAME) is None


def test_only_a_whole_version_of_the_store_is_promoted(store: Path) -> None:
    first, second = save(0, promote_first="the first"), save(1)
    (store / NAME / second / "model.txt").write_text("half")
    for wrong, said in ((second, "is damaged"), ("0123456789abcdef", "`credit-scoring models` lists those that it holds")):
        with pytest.raises(BundleError, match=said):
            promote(NAME, wrong, "newer")
    assert served() == first


@pytest.mark.parametrize(
    "line", ["{", '{"time":"2026-11-29T00:00:00Z","action":"crown","version":"v","by":"me"}', '{"format":2}', "\udcff"]
)
def test_a_journal_that_cannot_be_read_is_told_by_its_line(store: Path, line: str) -> None:
    save(0, promote_first="the first")
    with journal_path(store, NAME).open("ab") as file:
        file.write(line.encode(errors="surrogateescape") + b"\n")
    before = journal_path(store, NAME).read_bytes()
    for act in (served, lambda: promote(NAME, version(0), "why"), lambda: save(1)):
        with pytest.raises(JournalError, match=r"m\.journal\.jsonl, line 3 cannot be read"):
            act()
    assert journal_path(store, NAME).read_bytes() == before


@pytest.mark.parametrize("old", [False, True], ids=["journal", "earlier release"])
@pytest.mark.parametrize("act", ["promote", "rollback", "save"])
def test_a_change_that_stops_at_any_step_leaves_one_champion_which_the_journal_names(
    store: Path, monkeypatch: pytest.MonkeyPatch, act: str, old: bool
) -> None:
    first, second, third = (version(seed) for seed in range(3))
    acts = {
        "promote": (lambda: promote(NAME, second, "newer"), second),
        "rollback": (lambda: promote(NAME, None, "worse"), first),
        "save": (lambda: save(2), first if old else second),
    }
    run, after = acts[act]
    if old and act == "rollback":
        pytest.skip("there is nothing to roll back to")
    for step in range(100):
        shutil.rmtree(store)
        store.mkdir()
        if old:
            save_to_store(small_training(1).bundle, NAME)
            save_as_an_earlier_release(store, 0)
        else:
            save(0, promote_first="the first")
            save(1)
            if act != "promote":
                promote(NAME, second, "newer")
        before = served()
        with monkeypatch.context() as patch:
            done = stop_at(patch, step)
            with contextlib.suppress(BundleError, OSError, Killed):
                run()
        now = served()
        assert now in {before, after}
        if journal_path(store, NAME).is_file():
            assert champions(read_journal(journal_path(store, NAME)) or [])[-1] == now
        if act == "rollback" and now == after:
            promote(NAME, after, "again")  # changes nothing, but what a killed rollback left undone
        else:
            run()
        assert served() == after
        assert bentoml.models.get(f"{NAME}:latest").tag.version == after
        assert not list(store.rglob("*partial*"))
        if act == "save":
            assert find_in_store(NAME, third).name == third
        if not done():
            break
    assert 5 < step < 99
