"""The BentoML service. It assembles bundle, contract, pipeline and metrics, and computes nothing itself."""

import os
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import bentoml
from starlette.responses import Response

from monitoring.drift.live import LiveDrift
from monitoring.metrics import Metrics
from monitoring.service_log import configure_logging
from serving import specs
from serving.bentoml_configuration import check_configuration
from serving.bundle import read_bundle
from serving.contract.asking import Asking
from serving.contract.requests import RequestParser
from serving.contract.rows import Row
from serving.http.bento import lean_service
from serving.http.publishing import publish
from serving.http.routes import get_app
from serving.identity.key_ring import required_keys
from serving.pipeline import Pipeline, Scoring
from serving.reasons.desk import Desk
from serving.reasons.explainer import Explainer
from serving.runner import Runner
from serving.startup import announce, bundle_folder, check_start, end_with_parent, pass_interrupts_on, settings_or_exit, spare_collections

SETTINGS = settings_or_exit()
metrics = Metrics()
keys = required_keys(SETTINGS, metrics.keys_failed)
app = get_app(metrics)


def find_bundle() -> Path:
    """The folder of the bundle to serve: the one packed into this bento, else the one that the settings name."""
    return bundle_folder(CreditScoring.bento, SETTINGS)  # type: ignore[attr-defined] # BentoML makes a service of the class


@bentoml.service(
    name="credit_scoring",
    service_class=lean_service(metrics, keys, SETTINGS),
    workers=1,
    http={"host": "127.0.0.1", "port": 3000},
    metrics={"enabled": False},  # BentoML's metrics use the raw path as a label, so a scanner could create labels without bound
    logging={"access": {"enabled": False}},
)
@bentoml.asgi_app(app, path="/")
class CreditScoring:
    """Credit scoring: a calibrated probability of default, a decision and a risk level for each applicant."""

    def __init__(self) -> None:
        # these import the database libraries, which the parent process does not need
        from serving.answering import Answering
        from serving.once import Once
        from serving.recording import Recording

        begun = datetime.now(UTC)
        end_with_parent()
        configure_logging(SETTINGS.log_level)
        bundle = self.bundle = read_bundle(find_bundle())
        self.version = bundle.version
        self.parser = RequestParser(bundle.features, SETTINGS.service.max_rows, Asking(bundle.reasons, SETTINGS.reasons))
        self.drift = LiveDrift(bundle.drift_reference, bundle.decision.threshold, bundle.approval_rate, **SETTINGS.drift.model_dump())
        self.recording = Recording(SETTINGS, metrics)
        self.pipeline = Pipeline(
            bundle,
            threads=SETTINGS.service.scoring_threads,
            raw_fields=SETTINGS.log.raw_fields,
            model_name=SETTINGS.model.name,
            record=self.recording.record,
            count=self._count,
        )
        self._explained = Explainer(bundle, self.pipeline.pds).explained if bundle.reasons else lambda scoring: scoring
        self._explain([self.parser.parse_example()])  # warm up: the first call is slow
        caps = SETTINGS.service.model_dump(include={"max_batch_size", "max_waiting"})
        deadline = SETTINGS.service.deadline_seconds
        self.runner = Runner(self.pipeline.score, self.pipeline.commit, **caps, deadline=deadline, metrics=metrics)
        self.desk = Desk(self._explain, self.pipeline.commit, max_waiting=SETTINGS.reasons.max_waiting, deadline=deadline)
        self.once = Once(self.recording, SETTINGS.service.idempotency_seconds, deadline)
        parts = self.parser, self.pipeline, self.recording, metrics
        self.answering = Answering(*parts, runner=self.runner, desk=self.desk, explain=self._explain, once=self.once)
        metrics.model(SETTINGS.model.name, self.version, bundle.trained_on)
        publish(app, SETTINGS.model.name, bundle, self.recording, SETTINGS.service.max_rows)
        announce(SETTINGS, bundle, packed=CreditScoring.bento is not None)  # type: ignore[attr-defined]
        self.drift.start(metrics.registry, partial(self.recording.scored_before, begun, self.version, SETTINGS.drift.window))
        spare_collections()

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Check in the parent process that the service can serve; refuse to start if it cannot."""
        os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
        check_configuration(CreditScoring.name, CreditScoring.config, SETTINGS)  # type: ignore[attr-defined]
        check_start(SETTINGS, keys, find_bundle)
        pass_interrupts_on()

    @bentoml.api(route="/predict", input_spec=specs.PredictInput, output_spec=specs.PredictOutput)
    async def predict(self, body: bytes) -> Response:
        """Score one applicant."""
        return await self.answering.predict(body)

    @bentoml.api(route="/explain", input_spec=specs.ExplainInput, output_spec=specs.ExplainOutput)
    async def explain(self, body: bytes) -> Response:
        """Score one applicant and explain the decision."""
        return await self.answering.explain(body)

    @bentoml.api(route="/predict/batch", input_spec=specs.BatchInput, output_spec=specs.BatchOutput)
    async def predict_batch(self, body: bytes) -> Response:
        """Score many applicants. An invalid row gets an error; the others are scored."""
        return await self.answering.predict_batch(body)

    @bentoml.api(route="/outcomes", input_spec=specs.OutcomesInput, output_spec=specs.OutcomesOutput)
    async def outcomes(self, body: bytes) -> Response:
        """Record whether applicants defaulted."""
        return await self.answering.outcomes(body)

    @bentoml.api(route="/simulate", input_spec=specs.PredictInput, output_spec=specs.SimulateOutput)
    async def simulate(self, body: bytes) -> Response:
        """Score one applicant as `predict` does, without a record and without counting it."""
        return await self.answering.simulate(body)

    async def __is_ready__(self) -> bool:
        """Whether decisions and outcomes can be recorded. BentoML calls this for `/readyz`."""
        return self.recording.ready

    @bentoml.on_shutdown
    def close(self) -> None:
        """Finish writing to the log and shipping to the store."""
        self.drift.stop()
        self.desk.close()
        self.once.close()
        self.recording.close()

    def _count(self, scoring: Scoring) -> None:
        self.drift.add(scoring.matrix, scoring.pds)
        metrics.predictions(scoring.predictions)

    def _explain(self, rows: list[Row]) -> Scoring:
        return self._explained(self.pipeline.score(rows))
