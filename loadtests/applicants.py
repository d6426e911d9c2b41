"""Generated applicants in the form that a client would send."""

from typing import Any

from training.home_credit.generator import Generator


def requests(count: int, seed: int) -> list[dict[str, Any]]:
    """Bodies of `POST /predict` with named fields; missing values are left out."""
    generator = Generator.from_file()
    columns = [column.name for column in generator.table.columns]
    bodies = []
    for frame in generator.draw(count, seed):
        known = frame[columns].astype(object).where(frame[columns].notna(), None)
        bodies += [
            {"client_id": str(key), "application": {name: value for name, value in row.items() if value is not None}}
            for key, row in zip(frame[generator.table.key], known.to_dict("records"), strict=True)
        ]
    return bodies
