# MLflow from the project's locks: its published image has no driver for PostgreSQL.
FROM docker.io/library/python:3.11-slim-bookworm AS build
COPY configs/requirements/setup.txt configs/requirements/train.txt configs/requirements/serve.txt /locks/
RUN python -m venv /opt/uv && /opt/uv/bin/python -m pip install --no-cache-dir --require-hashes -r /locks/setup.txt \
    && python -m venv --without-pip /opt/mlflow \
    && /opt/uv/bin/uv pip sync --no-cache --python /opt/mlflow/bin/python --require-hashes --compile-bytecode /locks/train.txt /locks/serve.txt

FROM docker.io/library/python:3.11-slim-bookworm
RUN groupadd --gid 1035 mlflow && useradd --uid 1035 --gid 0 --no-create-home mlflow \
    && install -d -o 1035 -g 0 -m 0775 /var/lib/mlflow
COPY --from=build /opt/mlflow /opt/mlflow
COPY configs/deploy/stack/mlflow_server.py /opt/mlflow_server.py
ENV PATH=/opt/mlflow/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 GIT_PYTHON_REFRESH=quiet
WORKDIR /tmp
USER 1035:0
EXPOSE 5000
ENTRYPOINT ["python", "/opt/mlflow_server.py"]
