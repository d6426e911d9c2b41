"""FastAPI and LightGBM in the usual way: once with a `def` endpoint, once with `async def`."""

import os

import lightgbm
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

booster = lightgbm.Booster(model_file=os.environ["BENCH_MODEL"])
threshold = float(os.environ["BENCH_THRESHOLD"])
app = FastAPI()


class Request(BaseModel):
    features: list[float | None]
    client_id: str | None = None


def score(request: Request) -> dict[str, object]:
    pd = float(booster.predict(np.array([request.features], dtype=float), num_threads=1)[0])
    decision = "DECLINE" if pd >= threshold else "APPROVE"
    return {"client_id": request.client_id, "probability": pd, "prediction": int(pd >= threshold), "decision": decision}


@app.post("/def")
def predict(request: Request) -> dict[str, object]:
    return score(request)


@app.post("/async")
async def predict_async(request: Request) -> dict[str, object]:
    return score(request)
