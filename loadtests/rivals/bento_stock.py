"""BentoML's own adaptive batching: with its defaults, and tuned by everything that helps this service."""

import gc
import os
from typing import Any

import bentoml
import lightgbm
import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response


def load() -> lightgbm.Booster:
    return lightgbm.Booster(model_file=os.environ["BENCH_MODEL"])


@bentoml.service(name="stock", workers=1, http={"host": "127.0.0.1"})
class Stock:
    def __init__(self) -> None:
        self.booster = load()

    @bentoml.api(batchable=True, max_batch_size=128)
    def predict(self, features: np.ndarray) -> list[float]:
        return list(self.booster.predict(features, num_threads=1).tolist())


class Vectors(bentoml.IODescriptor):
    features: Any

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> Any:
        return cls.model_construct(features=np.array(msgspec.json.decode(await request.body())["features"], dtype=float))


class Scores(bentoml.IODescriptor):
    scores: list[float]

    @classmethod
    async def to_http_response(cls, obj: Any, serde: Any) -> Response:
        return Response(msgspec.json.encode({"probability": float(obj[0])}), media_type="application/json")


@bentoml.service(
    name="tuned",
    workers=1,
    http={"host": "127.0.0.1"},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": ".*"},
)
class Tuned:
    def __init__(self) -> None:
        self.booster = load()
        self.booster.predict(np.zeros((1, self.booster.num_feature())), num_threads=1)
        gc.collect()
        gc.freeze()

    @bentoml.api(batchable=True, max_batch_size=128, max_latency_ms=10_000, input_spec=Vectors, output_spec=Scores)
    def predict(self, features: Any) -> Any:
        return self.booster.predict(features, num_threads=1)
