"""Makes a version of the model store the champion, which is the one that is served."""

from typing import NamedTuple

from serving.bundle import BundleError, read_bundle
from serving.journal import add_events, champions, checked_reason, journal_path, new_event, read_journal
from serving.model_store import begin_journal, find_in_store, model_store, point_latest
from serving.whole_files import locked


class Promotion(NamedTuple):
    """The champion now and before, None if there was none. They are equal if nothing changed."""

    version: str
    before: str | None


def promote(name: str, version: str | None, reason: str) -> Promotion:
    """Make a version the champion, or the champion before the present one again if `version` is None.

    Every change of the champion passes here: the only exception is a store's first model, which `save_to_store` promotes.

    Raises
    ------
    BundleError
        The store does not hold the version, or it is damaged; or there is no champion to return to.
    JournalError
        The reason cannot be written into the journal, or the journal cannot be read.
    OSError
        The store cannot be written.
    """
    reason, store = checked_reason(reason), model_store()
    journal = journal_path(store, name)
    with locked(store / ".lock"):
        begin_journal(name)
        standing = champions(read_journal(journal) or [])
        before = standing[-1] if standing else None
        back = version is None
        if version is None:
            if len(standing) < 2:
                told = f"champion before {before}" if before else "champion yet"
                raise BundleError(f"{name} has had no {told}; see `credit-scoring models`")
            version = standing[-2]
        version = read_bundle(find_in_store(name, version)).version
        if back or version != before:
            add_events(journal, [new_event("rollback" if back else "promote", version, reason, before)])
        point_latest(name)
    return Promotion(version, before)
