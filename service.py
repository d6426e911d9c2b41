"""The BentoML service: assembles features, model, contract and metrics; computes nothing itself."""

import gc
import os
from pathlib import Path
from typing import Any

import bentoml
import click
from starlette.responses import Response

from configs.settings import SettingsError, settings
from monitoring.logs import configure_logging
from monitoring.metrics import Metrics
from serving.bundle import GENERATED, BundleError, find_in_store, read_bundle
from serving.contract import Contract, Row, prediction, row_error
from serving.errors import ServiceError
from serving.exposure import ExposureError, check_exposure, listening_hosts
from serving.http import BatchInput, BatchOutput, Boundary, PredictInput, PredictOutput, get_app, json_response, problem_response
from serving.openapi import openapi
from serving.scorer import Scorer

try:
    SETTINGS = settings()
except SettingsError as error:
    raise SystemExit(str(error)) from None

metrics = Metrics()
app = get_app(metrics)


def find_bundle() -> Path:
    """The bundle to serve: the one packed into this bento, or the one that the settings name."""
    if CreditScoring.bento is not None:
        tag = CreditScoring.bento.info.all_models[0].tag
        return find_in_store(tag.name, tag.version)
    return find_in_store(SETTINGS.model.name, SETTINGS.model.version)


@bentoml.service(
    name="credit_scoring",
    workers=1,
    http={"host": "127.0.0.1", "port": 3000},
    traffic={"timeout": 60},
    metrics={"enabled": False},  # its label for the route is the raw path, which a scanner makes grow without bound
    logging={"access": {"enabled": False}},
)
@bentoml.asgi_app(app, path="/")
class CreditScoring:
    """Credit scoring: a calibrated probability of default, a decision and a risk level for each applicant."""

    def __init__(self) -> None:
        log = configure_logging(SETTINGS.log_level)
        check_exposure(listening_hosts(), SETTINGS)
        self.bundle = read_bundle(find_bundle())
        self.version = self.bundle.version
        self.scorer = Scorer(self.bundle)
        self.contract = Contract(self.bundle.features, SETTINGS.service.max_rows)
        self._answer([self.contract.parse_example()])  # the first call of everything is slow; let it not be a client's
        self._publish()
        if self.bundle.trained_on == GENERATED:
            log.warning("the model was trained on generated data; its decisions are for trying out only")
        log.info("ready", extra={"model": SETTINGS.model.name, "version": self.version, "trained_on": self.bundle.trained_on})
        gc.collect()
        gc.freeze()  # the objects made so far live for ever; scanning them stops every request for 100 ms and more

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Refuse to start, in the parent process, what could not serve."""
        os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
        context = click.get_current_context(silent=True)
        host = context.params.get("host") if context else None
        try:
            check_exposure([host] if host else [], SETTINGS)
            read_bundle(find_bundle())
        except (BundleError, ExposureError) as error:
            raise SystemExit(str(error)) from None

    @bentoml.api(route="/predict", input_spec=PredictInput, output_spec=PredictOutput)
    async def predict(self, body: Any) -> Response:
        """Score one applicant."""
        try:
            row = self.contract.parse_one(_content(body))
        except ServiceError as error:
            return problem_response(error)
        return json_response(self._answer([row])[0])

    @bentoml.api(route="/predict/batch", input_spec=BatchInput, output_spec=BatchOutput)
    async def predict_batch(self, body: Any) -> Response:
        """Score many applicants; a bad row spoils only itself."""
        try:
            rows = self.contract.parse_batch(_content(body))
        except ServiceError as error:
            return problem_response(error)
        good = iter(self._answer([row for row in rows if not row.errors]))
        answers = [row_error(index, row) if row.errors else next(good) for index, row in enumerate(rows)]
        metrics.row_errors(sum(1 for row in rows if row.errors))
        return json_response({"predictions": answers, "count": len(answers)})

    def _answer(self, rows: list[Row]) -> list[dict[str, Any]]:
        pds = self.scorer.pd(self.contract.matrix(rows)).tolist()
        answers = [prediction(row, pd, self.bundle.decision, self.version) for row, pd in zip(rows, pds, strict=True)]
        metrics.predictions(answers)
        return answers

    def _publish(self) -> None:
        bundle, name = self.bundle, SETTINGS.model.name
        metrics.model(name, self.version, bundle.trained_on)
        app.state.health = {
            "status": "ok",
            "model_loaded": True,
            "model_name": name,
            "model_version": self.version,
            "trained_on": bundle.trained_on,
        }
        app.state.model = {
            "name": name,
            "version": self.version,
            "trained_on": bundle.trained_on,
            "features": bundle.features.describe(),
            "threshold": bundle.decision.threshold,
            "bands": bundle.decision.bands,
            "costs": bundle.decision.to_dict()["costs"],
            "metrics": bundle.metadata["metrics"],
            "libraries": bundle.metadata["libraries"],
        }
        features = bundle.features
        app.state.openapi = openapi(features.table, len(features.names), SETTINGS.service.max_rows, self.version)


def _content(body: Any) -> bytes:
    if isinstance(body, ServiceError):
        raise body
    content: bytes = body
    return content


CreditScoring.add_asgi_middleware(Boundary, metrics=metrics, max_body_bytes=SETTINGS.service.max_body_bytes)
