"""Starts MLflow's server on a database of its own in PostgreSQL, which it makes if it is missing; `check` asks for its health."""

import os
import sys
import urllib.request
from pathlib import Path

from sqlalchemy import create_engine, make_url, text

ARTIFACTS = "/var/lib/mlflow"


def main() -> None:
    """Make the database, then become the server."""
    if sys.argv[1:] == ["check"]:
        urllib.request.urlopen("http://127.0.0.1:5000/health", timeout=2)
        return
    url = make_url(os.environ["MLFLOW_DATABASE_URL"]).set(password=Path(os.environ["MLFLOW_PASSWORD_FILE"]).read_text().strip())
    engine = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        if not connection.execute(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": url.database}).scalar():
            connection.execute(text(f'CREATE DATABASE "{url.database}" ENCODING UTF8 TEMPLATE template0'))
    engine.dispose()
    # as an argument it would be in the list of processes
    os.environ["MLFLOW_BACKEND_STORE_URI"] = url.render_as_string(hide_password=False)
    arguments = ["--host", "0.0.0.0", "--port", "5000", "--workers", "1", "--artifacts-destination", ARTIFACTS]
    os.execvp("mlflow", ["mlflow", "server", *arguments, "--allowed-hosts", "localhost:*,127.0.0.1:*,mlflow:*"])


if __name__ == "__main__":
    main()
