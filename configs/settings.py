"""The settings tree: defaults in settings.yaml, then the file CREDIT_CONFIG names, then CREDIT_* variables."""

import os
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource

from configs.errors import UserError

CONFIGS = Path(__file__).parent
PREFIX = "CREDIT_"
FILE_VARIABLE = "CREDIT_CONFIG"
KUBERNETES_VARIABLE = re.compile(  # variables that Kubernetes sets in pods for a Service named credit-scoring or credit-scoring-NAME
    r"CREDIT_SCORING_(?:[A-Z0-9]+_)*(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)
DATABASE_VARIABLE = "DATABASE_URL"  # set by hosting platforms; CREDIT_STORE__URL takes precedence
DRIVERS = {
    "sqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Days = Annotated[float, Field(gt=0, le=36_500)]  # a century, within the range of dates
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class SettingsError(UserError):
    """A setting is unknown or invalid. The message names each one and what was expected."""


class Section(BaseModel):
    """A part of the tree: frozen, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSettings(Section):
    """Which entry of the BentoML model store is served."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
    version: str


class DecisionSettings(Section):
    """The costs from which the threshold follows, in one unit, and the rule for applications with little information."""

    false_negative_cost: Positive
    false_positive_cost: Positive
    min_approval_rate: Share
    thin_application: Literal["warn", "decline"]


class ServiceSettings(Section):
    """Limits of requests, of the queue, and of batches."""

    head_seconds: Positive
    body_seconds: Positive
    idle_seconds: Positive
    max_body_bytes: Count
    max_single_bytes: Count
    max_bytes_in_work: Count
    max_rows: Count
    max_batch_size: Count
    scoring_threads: Count
    max_waiting: Count
    max_in_flight: Count
    deadline_seconds: Positive
    idempotency_seconds: Positive
    drain_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    tracing: bool
    access_log: bool

    @field_validator("max_bytes_in_work")
    @classmethod
    def _leave_room_for_a_body(cls, most: int, info: ValidationInfo) -> int:
        if most * 7 < info.data.get("max_body_bytes", 0) * 8:
            raise ValueError("expected at least 8/7 of max_body_bytes")
        return most


class ReasonsSettings(Section):
    """How decisions are explained."""

    on_decline: bool
    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]
    max_waiting: Count


class LogSettings(Section):
    """How a decision is recorded before it is answered."""

    durability: Literal["off", "flush", "fsync", "database"]
    max_bytes: Count
    retention_days: Days
    raw_fields: tuple[str, ...]


class DatabaseSettings(Section):
    """A database: its URL, and the file of its password."""

    url: SecretStr | None
    password_file: Path | None

    @field_validator("password_file")
    @classmethod
    def _hold_a_password(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        if file and not info.data.get("url"):
            raise ValueError("the url beside it is not set; set it to the database that the password is for")
        try:
            if file and not file.read_text().strip():
                raise ValueError("the file is empty; expected a password")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"the file cannot be read: {error}") from None
        return file

    @field_validator("url")
    @classmethod
    def _name_the_driver(cls, url: SecretStr | None) -> SecretStr | None:
        scheme, mark, rest = url.get_secret_value().partition("://") if url else ("", "", "")
        if url and (scheme not in DRIVERS or not mark or not rest.strip("/")):
            raise ValueError(
                f"the URL begins with {scheme if mark else ''!r}; expected one of {', '.join(f'{name}://' for name in DRIVERS)}, and a place"
            )
        return SecretStr(f"{DRIVERS[scheme]}://{rest}") if url else None

    def url_or_file(self, file: Path) -> str:
        """The URL for SQLAlchemy, which may contain a password; that of a SQLite file if none is set."""
        from sqlalchemy import URL, make_url

        if not self.url:
            return URL.create("sqlite", database=str(file.absolute())).render_as_string()
        url = self.url.get_secret_value()
        if not self.password_file:
            return url
        return make_url(url).set(password=self.password_file.read_text().strip()).render_as_string(hide_password=False)


class LatencyTarget(Section):
    """The limits that `make loadtest` checks: latency at the client in milliseconds, and the share of failed requests."""

    p95_ms: Positive
    p99_ms: Positive
    max_failures: Share


class DriftSettings(Section):
    """How the running service measures drift."""

    window: Count
    interval_seconds: Positive


class RetrainingSettings(Section):
    """The limits of `credit-scoring retraining-signal`; monitoring/README.md explains the rule."""

    drifted_features: Share
    max_roc_auc_loss: Positive
    max_observed_to_expected: Annotated[float, Field(gt=1, allow_inf_nan=False)]
    outcome_days: Days
    judged_days: Days
    min_outcomes: Share
    max_age_days: Days


class DashboardSettings(Section):
    """The dashboard: where it listens, which API it asks, and for how long a person stays signed in."""

    address: str
    port: Annotated[int, Field(ge=0, le=65_535)]
    public_url: Annotated[str, Field(pattern=r"^https://[^/\s]+$")] | None
    trusted_proxies: tuple[str, ...]
    api_url: Annotated[str, Field(pattern=r"^https?://[^\s]+[^/\s]$")]
    api_keys: Path | None
    users: DatabaseSettings
    idle_minutes: Positive
    session_hours: Positive
    language: Literal["en", "fr"]


class DataSettings(Section):
    """The limits beyond which `train` and `score` refuse a table."""

    max_unseen: Share
    max_missing_rise: Share


class LightGBMSettings(Section):
    """Parameters of the gradient boosting, by LightGBM's names."""

    num_trees: Count
    learning_rate: Positive
    max_depth: Annotated[int, Field(ge=1, le=12)]
    num_leaves: Annotated[int, Field(ge=2)]
    feature_fraction: Annotated[float, Field(gt=0, le=1)]
    min_data_in_leaf: Count
    lambda_l2: Annotated[float, Field(ge=0)]


class TrainingSettings(Section):
    """One training run."""

    generated_applications: Annotated[int, Field(ge=1000)]
    folds: Annotated[int, Field(ge=2, le=20)]
    bootstrap_samples: Annotated[int, Field(ge=20)]
    without_history: Annotated[float, Field(ge=0, lt=1)]
    hidden: Annotated[float, Field(gt=0, lt=1)]
    seed: Annotated[int, Field(ge=0)]
    monotone: bool
    allowed_columns: tuple[str, ...]
    lightgbm: LightGBMSettings


class Settings(BaseSettings):
    """Every setting of the product, read once at start."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, protected_namespaces=())

    auth: Literal["required", "disabled"]
    home: Path
    keys_file: Path | None
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]
    model: ModelSettings
    decision: DecisionSettings
    service: ServiceSettings
    reasons: ReasonsSettings
    log: LogSettings
    store: DatabaseSettings
    latency_target: LatencyTarget
    drift: DriftSettings
    retraining: RetrainingSettings
    dashboard: DashboardSettings
    data: DataSettings
    training: TrainingSettings

    @property
    def keys_path(self) -> Path:
        """The file of API keys."""
        return self.keys_file or self.home / "keys.json"

    @property
    def log_folder(self) -> Path:
        """The folder of the decision log."""
        return self.home / "logs"

    @property
    def store_url(self) -> str:
        """The URL of the store for SQLAlchemy; it may contain a password."""
        return self.store.url_or_file(self.home / "store.db")

    @property
    def dashboard_url(self) -> str:
        """The URL of the dashboard's users for SQLAlchemy; it may contain a password."""
        return self.dashboard.users.url_or_file(self.home / "dashboard.db")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """In order of precedence: the environment, DATABASE_URL, the user's file, the defaults."""
        files = [os.environ.get(FILE_VARIABLE), CONFIGS / "settings.yaml"]
        database = os.environ.get(DATABASE_VARIABLE)
        platform = InitSettingsSource(settings_cls, {"store": {"url": database}} if database else {})
        return (env_settings, platform, *(YamlConfigSettingsSource(settings_cls, yaml_file=file) for file in files if file))


def load_settings() -> Settings:
    """Read the settings from their files and the environment.

    Raises
    ------
    SettingsError
        A key or value is wrong. The message names each one and what was expected.
    """
    problems = []
    for name in sorted(os.environ):
        field = name.removeprefix(PREFIX).split("__")[0].lower()
        foreign = name == FILE_VARIABLE or KUBERNETES_VARIABLE.fullmatch(name)
        if name.startswith(PREFIX) and not foreign and field not in Settings.model_fields:
            problems.append(f"{name}: no such setting; expected one of {', '.join(Settings.model_fields)}")
    file = os.environ.get(FILE_VARIABLE)
    if file and not Path(file).is_file():
        problems.append(f"{FILE_VARIABLE}: {file} is not a file; expected a YAML file of settings")
    if not problems:
        try:
            return Settings()
        except ValidationError as error:
            problems += [_explain(item) for item in error.errors()]
        except yaml.YAMLError as error:
            problems.append(f"{FILE_VARIABLE}: {file} is not YAML: {error}")
        except ValueError as error:  # from pydantic-settings, for a section that is not a mapping
            problems.append(f"{error}; expected a value for each key of the section")
    raise SettingsError("wrong settings:\n" + "\n".join(f"  {problem}" for problem in problems))


@cache
def settings() -> Settings:
    """The settings of this process."""
    return load_settings()


def _explain(error: Any) -> str:
    path = [str(part) for part in error["loc"]]
    variable = PREFIX + "__".join(path).upper()
    if path == ["store", "url"] and variable not in os.environ and DATABASE_VARIABLE in os.environ:
        variable = DATABASE_VARIABLE
    if error["type"] == "extra_forbidden":
        return f"{'.'.join(path)} ({variable}): no such setting"
    given = "a value that is not shown" if {"store", "users"} & set(path) else repr(error["input"])
    return f"{'.'.join(path)} ({variable}): got {given}; {error['msg'][0].lower()}{error['msg'][1:]}"
