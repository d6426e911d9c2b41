"""The commands that show the versions of the model and choose which of them is served."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml

from configs.settings import load_settings
from serving.console import chosen_model, fail

if TYPE_CHECKING:
    from serving.bundle import Bundle
    from serving.journal import Event

app = typer.Typer()

HEAD = ("version", "state", "age", "trained on", "ROC-AUC", "cost", "approved", "threshold")
ROW = "{:16}  {:9}  {:>9}  {:26}  {:>7}  {:>6}  {:>8}  {:>9}"
LAST = 10  # events shown below the versions
Reason = Annotated[str, typer.Option(help="Why, in a line; the journal keeps it")]


@app.command()
def models(
    journal: Annotated[bool, typer.Option("--journal", help="Show all events of the journal, not only the last ones")] = False,
) -> None:
    """Show the versions of the model, which one is served, and who made and promoted which, when and why."""
    from serving.bundle import BundleError
    from serving.journal import journal_path, read_journal
    from serving.model_store import CHAMPION, find_in_store, has_journal, model_store

    options = load_settings()
    store, name = model_store(), options.model.name
    events = read_journal(journal_path(store, name)) or []
    entries = sorted((path for path in (store / name).glob("*/") if path.is_dir()), key=_made, reverse=True)
    typer.echo(f"{len(entries)} versions of {name} in {store}")
    if entries:
        typer.echo(ROW.format(*HEAD))
    for entry in entries:
        typer.echo(ROW.format(*_row(entry, events)).rstrip())
    try:
        served = find_in_store(name, options.model.version).name
        why = "the champion" if has_journal(name) else "BentoML's latest, because none was ever promoted"
        if options.model.version != CHAMPION:
            why = f"because CREDIT_MODEL__VERSION is {options.model.version}"
        typer.echo(f"a service that starts now serves {served}, {why}")
    except BundleError as error:
        typer.echo(f"a service cannot start: {error}")
    for event in events if journal else events[-LAST:]:
        typer.echo(f"{event.time:%Y-%m-%d %H:%M} UTC  {event.action:8}  {event.version}  {event.by}  {event.reason}".rstrip())
    if len(events) > LAST and not journal:
        typer.echo(f"{len(events) - LAST} older events: `credit-scoring models --journal`")


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="The version to serve, as `train`, `decide` and `models` print it")],
    reason: Reason,
) -> None:
    """Make a version the champion. A service that starts from then on serves it."""
    _promote(version, reason)


@app.command()
def rollback(reason: Reason = "rolled back") -> None:
    """Return to the champion before the present one."""
    _promote(None, reason)


@app.command()
def decide(
    reason: Reason,
    costs: Annotated[
        str | None, typer.Option(help="Costs of approving an applicant who defaults and of declining one who repays, such as 5:1")
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="PD from which applicants are declined, with the costs of the model")] = None,
    model: Annotated[str | None, typer.Option(help="NAME:VERSION or VERSION in the model store; default: the model that is served")] = None,
) -> None:
    """Make a version with another decision rule, without training. It is a candidate; `promote` makes it the one that is served."""
    from serving.bundle import read_bundle
    from serving.journal import checked_reason, new_event
    from serving.model_store import find_in_store, save_to_store
    from training.deciding import decide as run
    from training.deciding import read_costs

    if (costs is None) == (threshold is None):
        fail("expected either --costs or --threshold")
    options = load_settings()
    name, version = chosen_model(options, model)
    if name != options.model.name:
        fail(f"--model is {model}; expected a version of {options.model.name}, the model of the settings (CREDIT_MODEL__NAME)")
    reason, base = checked_reason(reason), read_bundle(find_in_store(name, version))
    bundle = run(base, read_costs(costs) if costs else None, threshold)
    tag = save_to_store(bundle, name, new_event("decide", bundle.version, reason, base.version))
    _show_change(base, bundle)
    from training.results import put_on_record

    put_on_record(bundle, options, typer.echo)
    typer.echo(f"{tag} is a candidate; to serve it: credit-scoring promote {bundle.version} --reason TEXT")


def _promote(version: str | None, reason: str) -> None:
    """Promote a version, or roll back; say what changed, and mirror it in MLflow."""
    from serving.bundle import read_bundle
    from serving.model_store import find_in_store
    from serving.promotion import promote as run

    options = load_settings()
    name = options.model.name
    done = run(name, version and version.removeprefix(f"{name}:"), reason)
    if done.version == done.before:
        typer.echo(f"{name}:{done.version} is the champion already; nothing changes")
    else:
        after = f", after {done.before}" if done.before else ""
        typer.echo(f"{name}:{done.version} is the champion{after}; start the service again to serve it")
    if options.model.version not in ("champion", done.version):
        typer.echo(f"warning: the settings name version {options.model.version} (CREDIT_MODEL__VERSION), which is served instead")
    from training.results import put_on_record

    put_on_record(read_bundle(find_in_store(name, done.version)), options, typer.echo)


def _show_change(base: "Bundle", bundle: "Bundle") -> None:
    """Show what another decision rule changes, measured out of fold."""
    was, now = base.metadata["metrics"], bundle.metadata["metrics"]
    typer.echo(f"  {'threshold':16} {base.decision.threshold:.4f} -> {bundle.decision.threshold:.4f}")
    for metric in ("approval_rate", "precision", "recall", "cost_per_client"):
        typer.echo(f"  {metric:16} {was[metric]['value']:.4f} -> {now[metric]['value']:.4f}")
    if base.decision.costs != bundle.decision.costs:
        typer.echo("  the costs per client are not comparable, because the costs differ")
    floor = bundle.metadata["settings"]["decision"].get("min_approval_rate", 0)
    if bundle.approval_rate < floor:
        typer.echo(f"warning: the model was trained to approve at least {floor:.1%} (decision.min_approval_rate); this rule approves fewer")


def _made(entry: Path) -> datetime:
    """When an entry of the model store was made; for an incomplete entry, the time of its folder."""
    try:
        return datetime.fromisoformat(str(yaml.safe_load((entry / "model.yaml").read_text(encoding="utf-8"))["creation_time"]))
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return datetime.fromtimestamp(entry.stat().st_mtime, UTC)


def _row(entry: Path, events: "Sequence[Event]") -> tuple[str, ...]:
    """The cells of a version."""
    from serving.bundle import GENERATED, BundleError, read_bundle
    from serving.journal import champions

    try:
        bundle = read_bundle(entry)
    except BundleError:
        return entry.name, "damaged", *[""] * (len(HEAD) - 2)
    standing = champions(events)
    promoted = {event.version for event in events if event.action in ("adopt", "promote", "rollback")}
    state = "champion" if standing[-1:] == [entry.name] else "former" if entry.name in promoted else "candidate"
    metrics, data = bundle.metadata["metrics"], bundle.metadata["data"]
    source = "generated data" if bundle.trained_on == GENERATED else bundle.trained_on
    figures = (f"{metrics[name]['value']:.4f}" for name in ("roc_auc", "cost_per_client"))
    days = (datetime.now(UTC) - _made(entry)).total_seconds() / 86_400
    age = f"{days:.0f} days" if days >= 2 else f"{days * 24:.0f} h" if days * 24 >= 2 else f"{days * 1440:.0f} min"
    rows = f"{source}, {data['applications']:,}"
    return entry.name, state, age, rows, *figures, f"{bundle.approval_rate:.1%}", f"{bundle.decision.threshold:.4f}"
