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
from serving.contract import Contract, Row, now, prediction, row_error
from serving.errors import ServiceError, invalid
from serving.exposure import ExposureError, check_exposure, listening_hosts
from serving.http import (
    BatchInput,
    BatchOutput,
    PredictInput,
    PredictOutput,
    content,
    get_app,
    json_response,
    lean_service,
    problem_response,
)
from serving.keys import KeysError, required_keys
from serving.openapi import openapi
from serving.runner import Runner
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
    service_class=lean_service(metrics, SETTINGS),
    workers=1,
    http={"host": "127.0.0.1", "port": 3000},
    metrics={"enabled": False},  # its label for the route is the raw path, which a scanner makes grow without bound
    logging={"access": {"enabled": False}},
)
@bentoml.asgi_app(app, path="/")
class CreditScoring:
    """Credit scoring: a calibrated probability of default, a decision and a risk level for each applicant."""

    def __init__(self) -> None:
        log = configure_logging(SETTINGS.log_level)
        check_exposure(listening_hosts(), SETTINGS, has_keys=required_keys(SETTINGS) is not None)
        self.bundle = read_bundle(find_bundle())
        self.version = self.bundle.version
        self.scorer = Scorer(self.bundle)
        self.contract = Contract(self.bundle.features, SETTINGS.service.max_rows)
        limits = SETTINGS.service
        self.runner = Runner(
            self._answer,
            max_batch_size=limits.max_batch_size,
            max_waiting=limits.max_waiting,
            deadline=limits.deadline_seconds,
            metrics=metrics,
        )
        self._answer([self.contract.parse_example()])  # the first call of everything is slow; let it not be a client's
        self._publish()
        # BentoML binds an API method anew at every access, with a look at its signature; these are bound once
        self.predict, self.predict_batch = self.predict, self.predict_batch
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
            check_exposure([host] if host else [], SETTINGS, has_keys=required_keys(SETTINGS) is not None)
            read_bundle(find_bundle())
        except (BundleError, ExposureError, KeysError) as error:
            raise SystemExit(str(error)) from None

    @bentoml.api(route="/predict", input_spec=PredictInput, output_spec=PredictOutput)
    async def predict(self, body: Any) -> Response:
        """Score one applicant."""
        try:
            (answer,) = await self.runner.run([self.contract.parse_one(content(body))])
        except ServiceError as error:
            return problem_response(error)
        if isinstance(answer, Exception):
            raise answer
        return json_response(answer)

    @bentoml.api(route="/predict/batch", input_spec=BatchInput, output_spec=BatchOutput)
    async def predict_batch(self, body: Any) -> Response:
        """Score many applicants; a bad row spoils only itself."""
        try:
            rows = self.contract.parse_batch(content(body))
            good = iter(await self.runner.run([row for row in rows if not row.errors]))
        except ServiceError as error:
            return problem_response(error)
        answers = [invalid(row.errors) if row.errors else next(good) for row in rows]
        bad = [(index, answer) for index, answer in enumerate(answers) if isinstance(answer, Exception)]
        for index, error in bad:
            answers[index] = row_error(index, rows[index], error)
        metrics.row_errors(len(bad))
        return json_response({"predictions": answers, "count": len(answers)})

    def _answer(self, rows: list[Row]) -> list[dict[str, Any]]:
        pds = self.scorer.pd(self.contract.matrix(rows)).tolist()
        decision, version, time = self.bundle.decision, self.version, now()
        answers = [prediction(row, pd, decision, version, time) for row, pd in zip(rows, pds, strict=True)]
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
        app.state.model = {"name": name, **bundle.describe()}
        app.state.openapi = openapi(bundle.features, SETTINGS.service.max_rows, self.version)
