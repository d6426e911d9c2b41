"""The bundle: everything that serving a model needs, as a folder of files.

Files: the LightGBM text model, the schema of the raw data, the state of the features, calibration and decision, the reference
distributions, the metadata of the training run, and a manifest with the format version and the SHA-256 sum of each file. Bundles that can
give reasons also hold concepts, words and offers (reasons.json), the models of the cross-validation (folds.json.gz), and the table of
contributions (contributions.npz) unless a tree is too large for it.
The version of a model is a digest of its manifest, so the same content always has the same version.

A bundle depends on no other file: an edit of configs/schema.yaml never changes the answers of a stored model.
Bundles of formats 1 and 2 hold no schema. They load only if configs/schema.yaml is still the file they were trained with. Format 2
names the digest of that file; all bundles of format 1 were trained with the same file.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from configs.errors import UserError
from configs.settings import Settings
from features.applications import FeatureError
from features.schema import SchemaError, load_schema, schema_digest, schema_from_json, schema_to_json
from features.transform import FeatureTransform
from monitoring.drift.psi import Reference
from serving.calibration import Calibration
from serving.decision import Decision
from serving.reasons.concepts import Reasons
from serving.reasons.contributions import ContributionTable
from serving.reasons.interval import packed, unpacked

FORMAT = 3
SCHEMA_OF_FORMAT_1 = "444031ca364eac468b7368b17f57c0a9b5f94cdceffe6697cd9f05f5b192b2ef"
PRODUCT = "credit-scoring"
MANIFEST = "manifest.json"
MODEL, SCHEMA, FEATURES, DECISION = "model.txt", "schema.json", "features.json", "decision.json"
REFERENCE, METADATA = "reference.json", "metadata.json"
REASONS, CONTRIBUTIONS, FOLDS = "reasons.json", "contributions.npz", "folds.json.gz"
FILES = (MODEL, SCHEMA, FEATURES, DECISION, REFERENCE, METADATA)
OPTIONAL = (REASONS, CONTRIBUTIONS, FOLDS)
GENERATED = "generated"


class BundleError(UserError):
    """A bundle cannot be served. The message is one sentence with the reason."""


class MissingBundleError(BundleError):
    """The model store has no such entry."""


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Attributes
    ----------
    model : the LightGBM model as text.
    features : the fitted transform.
    metadata : `trained_on` ("generated" or the fingerprint of the data), `metrics`, `libraries` and more.
    reference : distribution of each feature and of the PD at training; see monitoring.drift.psi.reference.
    reasons : what it needs to explain decisions; None in bundles of earlier releases.
    """

    model: str
    features: FeatureTransform
    calibration: Calibration
    decision: Decision
    reference: dict[str, Any]
    metadata: dict[str, Any]
    reasons: Reasons | None = None

    @property
    def distributions(self) -> dict[str, dict[str, Any]]:
        """The reference distribution of each feature, in the model's order, followed by that of the PD."""
        return {**{name: self.reference["features"][name] for name in self.features.names}, "pd": self.reference["pd"]}

    @property
    def drift_reference(self) -> Reference:
        """The reference for measuring drift, with the columns of `distributions`."""
        return Reference(self.distributions, self.metadata["data"]["applications"])

    @property
    def approval_rate(self) -> float:
        """The share of training applicants whose out-of-fold PD is below the threshold, in [0, 1]."""
        return float(self.metadata["metrics"]["approval_rate"]["value"])

    def other_settings(self, settings: Settings) -> list[str]:
        """The settings that act at training and differ from those that this bundle was made with, a phrase for each."""
        stored, now = flat(self.metadata["settings"]), flat(settings.model_dump(mode="json", include={"decision", "training"}))
        return [f"{name} is {now[name]}, the model has {stored[name]}" for name in now if name in stored and now[name] != stored[name]]

    @property
    def trained_on(self) -> str:
        """The word "generated", or the fingerprint of the training data."""
        return str(self.metadata["trained_on"])

    def describe(self) -> dict[str, Any]:
        """The body of `GET /model`, except the model's name."""
        return {
            "version": self.version,
            "trained_on": self.trained_on,
            "features": self.features.describe(),
            "threshold": self.decision.threshold,
            "bands": self.decision.bands,
            "costs": self.decision.to_dict()["costs"],
            "thin_application": self.decision.to_dict()["thin"],
            "metrics": self.metadata["metrics"],
            "libraries": self.metadata["libraries"],
            "reasons": self.reasons.describe() if self.reasons else None,
        }

    def files(self) -> dict[str, bytes]:
        """The content of every file, the manifest included."""
        decision = {"calibration": self.calibration.to_dict(), **self.decision.to_dict()}
        content = {
            MODEL: self.model.encode(),
            SCHEMA: schema_to_json(self.features.schema).encode(),
            FEATURES: self.features.to_json().encode(),
            DECISION: _json(decision),
            REFERENCE: _json(self.reference),
            METADATA: _json(self.metadata),
        }
        if self.reasons:
            content[REASONS] = _json(self.reasons.to_dict())
            if self.reasons.table:
                content[CONTRIBUTIONS] = self.reasons.table.to_bytes()
            if self.reasons.folds:
                content[FOLDS] = packed(self.reasons.folds)
        sums = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
        content[MANIFEST] = _json({"product": PRODUCT, "format": FORMAT, "files": sums})
        return content

    @cached_property
    def version(self) -> str:
        """Sixteen hexadecimal digits that identify this content."""
        return _version(self.files()[MANIFEST])


def read_bundle(folder: Path) -> Bundle:
    """Read and verify a bundle.

    Raises
    ------
    BundleError
        The bundle belongs to another product, has a newer format, is incomplete or damaged, or needs other feature definitions.
        Or it holds no schema and was trained with another configs/schema.yaml.
    """
    manifest = _manifest(folder)
    own = manifest["format"] == FORMAT
    if not own and (SCHEMA_OF_FORMAT_1 if manifest["format"] == 1 else manifest.get("schema")) != schema_digest():
        raise BundleError(
            f"the bundle in {folder} was trained with another configs/schema.yaml and does not hold it: "
            "restore the file that it was trained with, or train again"
        )
    sums = manifest["files"]
    content = _files(folder, sums, [*(name for name in FILES if own or name != SCHEMA), *(name for name in OPTIONAL if name in sums)])
    try:
        decision = json.loads(content[DECISION])
        bundle = Bundle(
            model=content[MODEL].decode(),
            features=FeatureTransform.from_json(
                content[FEATURES].decode(), schema_from_json(content[SCHEMA].decode()) if own else load_schema()
            ),
            calibration=Calibration(**decision.pop("calibration")),
            decision=Decision.from_dict(decision),
            reference=json.loads(content[REFERENCE]),
            metadata=json.loads(content[METADATA]),
            reasons=_reasons(content),
        )
        vars(bundle)["version"] = _version((folder / MANIFEST).read_bytes())  # of the stored files: this release may write them differently
        return bundle
    except (FeatureError, SchemaError) as error:
        raise BundleError(f"the bundle in {folder} does not fit this release: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"the bundle in {folder} holds invalid values: {error!r}; train again") from None


def stored_version(folder: Path) -> str:
    """The version of the bundle in a folder, from its manifest.

    Raises
    ------
    BundleError
        The folder has no manifest of this product in a known format.
    """
    _manifest(folder)
    return _version((folder / MANIFEST).read_bytes())


def _files(folder: Path, sums: dict[str, str], names: list[str]) -> dict[str, bytes]:
    """The content of these files, whose checksums are verified."""
    content = {}
    for name in names:
        try:
            content[name] = (folder / name).read_bytes()
        except OSError as error:
            raise BundleError(f"the bundle in {folder} is incomplete: {name} cannot be read ({error.strerror})") from None
        if hashlib.sha256(content[name]).hexdigest() != sums.get(name):
            raise BundleError(f"the bundle in {folder} is damaged: {name} does not match its checksum in {MANIFEST}")
    return content


def _reasons(content: dict[str, bytes]) -> Reasons | None:
    if REASONS not in content:
        return None
    table = ContributionTable.from_bytes(content[CONTRIBUTIONS]) if CONTRIBUTIONS in content else None
    return Reasons.from_dict(json.loads(content[REASONS]), table, unpacked(content[FOLDS]) if FOLDS in content else ())


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        raise BundleError(f"{folder} holds no credit-scoring bundle: it has no readable {MANIFEST}") from None
    if not isinstance(manifest, dict) or manifest.get("product") != PRODUCT:
        raise BundleError(f"{folder} holds a bundle of another product; expected one of {PRODUCT}")
    version = manifest.get("format")
    if version not in range(1, FORMAT + 1):
        newer = isinstance(version, int) and version > FORMAT
        advice = "update this release" if newer else "train again"
        raise BundleError(f"the bundle in {folder} has format {version!r}; this release reads formats 1 to {FORMAT}: {advice}")
    if not isinstance(manifest.get("files"), dict):
        raise BundleError(f"the bundle in {folder} is damaged: {MANIFEST} lists no files")
    return manifest


def _version(manifest: bytes) -> str:
    return hashlib.sha256(manifest).hexdigest()[:16]


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of a tree by their dotted names."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        leaves |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return leaves


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
