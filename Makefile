# All commands of the project. Each target sets up what it needs; only python3 >= 3.11 and make are required.
PYTHON ?= python3
VENV ?= .venv
PORT ?= 3000
BACKEND ?= docker
FLAVOUR ?= distroless
IMAGE ?= credit-scoring:latest
DATA ?=
override DATA := $(value DATA)
export DATA # the shell reads the variable, so that a folder's name may contain any character
GROUPS := serve train monitor dev
LOCKS := $(GROUPS:%=configs/requirements/%.txt)
BIN := $(VENV)/bin
READY := $(VENV)/.ready

export BENTOML_DO_NOT_TRACK = True
unexport PYTHONDONTWRITEBYTECODE # without bytecode files, each start takes seconds longer

.PHONY: run serve train test test-quick test-fault coverage lint format image bench loadtest profile mlflow lock clean

run: $(READY)
	$(BIN)/credit-scoring train --if-missing
	$(BIN)/bentoml serve --port $(PORT)

serve: $(READY)
	$(BIN)/bentoml serve --port $(PORT)

train: $(READY)
	$(BIN)/credit-scoring train $${DATA:+--data "$$DATA"}

# Two workers with one LightGBM thread each, because its threads spin if they outnumber the cores.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

test-quick: $(READY) # without services, browsers and training
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m "not (fault or service or browser or model)"

test-fault: $(READY)
	$(BIN)/pytest -m fault

coverage: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --cov

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

image: $(READY)
	$(BIN)/credit-scoring train --if-missing
	$(BIN)/python configs/deploy/image/build.py --backend $(BACKEND) --flavour $(FLAVOUR) --tag $(IMAGE) $(IMAGE_OPTIONS:%=--option %)

configs/deploy/kubernetes/base/rules.yaml: configs/prometheus/rules.yml # the rules in the format of the Prometheus operator
	{ printf '%s\n' '# Made from configs/prometheus/rules.yml by `make rules`.' 'apiVersion: monitoring.coreos.com/v1' 'kind: PrometheusRule' \
		'metadata:' '  name: credit-scoring' 'spec:'; grep -v '^#' $< | sed 's/./  &/'; } > $@

rules: configs/deploy/kubernetes/base/rules.yaml

bench: $(READY) $(VENV)-bench/.ready
	$(BIN)/credit-scoring train --if-missing
	$(BIN)/python -m loadtests.bench --rivals $(VENV)-bench

loadtest: $(READY)
	$(BIN)/credit-scoring train --if-missing
	$(BIN)/python -m loadtests.load

profile: $(READY)
	$(BIN)/credit-scoring train --if-missing
	$(BIN)/python -m loadtests.profile

mlflow: $(READY)
	$(BIN)/credit-scoring mlflow

# Resolve all groups together first, so that the locks agree with each other.
lock: $(READY)
	all=$$(mktemp) && trap 'rm -f $$all' EXIT && compile="$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-annotate" && \
	$$compile $(ALL_GROUPS:%=--group %) -o $$all && \
	for group in $(ALL_GROUPS); do \
		$$compile --generate-hashes --custom-compile-command "make lock" -c $$all --group $$group -o configs/requirements/$$group.txt || exit 1; \
	done
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-annotate --generate-hashes --custom-compile-command "make lock" \
		--group bench -o configs/requirements/bench.txt
ALL_GROUPS := serve train monitor dashboard dev setup

clean:
	rm -rf $(VENV) .credit build *.egg-info

$(VENV)-bench/.ready: configs/requirements/bench.txt $(READY)
	$(PYTHON) -m venv --without-pip $(VENV)-bench
	$(BIN)/uv pip sync -q --python $(VENV)-bench/bin/python --require-hashes configs/requirements/bench.txt
	touch $@

$(READY): $(LOCKS) configs/requirements/setup.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "python3 is older than 3.11; name a newer one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --require-hashes -r configs/requirements/setup.txt
	$(BIN)/uv pip sync -q --python $(BIN)/python --require-hashes configs/requirements/setup.txt $(LOCKS)
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $@
