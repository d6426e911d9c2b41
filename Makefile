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
GROUPS := serve train monitor dashboard dev
LOCKS := $(GROUPS:%=configs/requirements/%.txt)
BIN := $(VENV)/bin
READY := $(VENV)/.ready

export BENTOML_DO_NOT_TRACK = True
unexport PYTHONDONTWRITEBYTECODE # without bytecode files, each start takes seconds longer

.PHONY: run first-model serve train test test-quick test-deploy test-fault coverage lint lint-deploy format image rules stack stack-down stack-clean \
	release-notes bench loadtest profile mlflow dashboard lock clean

run: first-model
	$(BIN)/bentoml serve --port $(PORT)

first-model: $(READY) # trains and promotes one if the model store is empty
	$(BIN)/credit-scoring train --if-missing

serve: $(READY)
	$(BIN)/bentoml serve --port $(PORT)

train: $(READY)
	$(BIN)/credit-scoring train $${DATA:+--data "$$DATA"}

# Three workers for two cores, since tests also wait; one LightGBM thread each, because its threads spin if they outnumber the cores.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 3

test-quick: $(READY) # without services, databases, browsers, training and what takes seconds
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 -m "not (fault or container or service or browser or model or slow)"

test-deploy: $(READY) $(VENV)-deploy/.ready # what needs a container engine and the image, or the validators
	BACKEND=$(BACKEND) IMAGE=$(IMAGE) $(BIN)/pytest -m container

test-fault: $(READY)
	$(BIN)/pytest -m fault

coverage: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 --cov

lint: $(READY) lint-deploy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Half a minute of one core, so only after a change of what it checks.
lint-deploy: build/deploy-checked

build/deploy-checked: $(shell find configs/deploy configs/prometheus .github -type f ! -name '*.md' ! -path '*/__pycache__/*') bentofile.yaml $(VENV)-deploy/.ready
	$(VENV)-deploy/bin/python configs/deploy/check.py
	mkdir -p build && touch $@

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

image: first-model
	$(BIN)/python configs/deploy/image/build.py --backend $(BACKEND) --flavour $(FLAVOUR) --tag $(IMAGE) $(IMAGE_OPTIONS:%=--option %)

configs/deploy/kubernetes/base/rules.yaml: configs/prometheus/rules.yml # the rules in the format of the Prometheus operator
	{ printf '%s\n' '# Made from configs/prometheus/rules.yml by `make rules`.' 'apiVersion: monitoring.coreos.com/v1' 'kind: PrometheusRule' \
		'metadata:' '  name: credit-scoring' 'spec:'; grep -v '^#' $< | sed 's/./  &/'; } > $@

rules: configs/deploy/kubernetes/base/rules.yaml

COMPOSE := $(VENV)-deploy/bin/docker-compose -f configs/deploy/compose.yaml $(and $(wildcard .env),--env-file .env)

stack: $(READY) $(VENV)-deploy/.ready
	configs/deploy/stack/secrets.sh $(BIN)
	IMAGE=$(IMAGE) $(COMPOSE) up --detach --wait $(STACK)

stack-down: $(VENV)-deploy/.ready # the data stay
	$(COMPOSE) --profile '*' down

stack-clean: $(VENV)-deploy/.ready
	@printf 'This deletes every decision, model record and password of the stack. Type yes: ' && read answer && [ "$$answer" = yes ]
	$(COMPOSE) --profile '*' down --volumes
	rm -rf .secrets

release-notes: # of VERSION, as CHANGELOG.md has them
	@awk -v version="$(VERSION)" '/^## /{ on = $$2 == version; found = found || on; next } on; END { if (!found) exit 1 }' CHANGELOG.md || \
		{ echo "CHANGELOG.md has no section ## $(VERSION)" >&2; exit 1; }

bench: first-model $(VENV)-bench/.ready
	$(BIN)/python -m loadtests.bench --rivals $(VENV)-bench

loadtest: first-model
	$(BIN)/python -m loadtests.load

profile: first-model
	$(BIN)/python -m loadtests.profile

mlflow: $(READY)
	$(BIN)/credit-scoring mlflow

dashboard: $(READY)
	$(BIN)/credit-scoring dashboard

# Resolve all groups together first, so that the locks agree with each other.
lock: $(READY)
	all=$$(mktemp) && trap 'rm -f $$all' EXIT && compile="$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-annotate" && \
	$$compile $(ALL_GROUPS:%=--group %) -o $$all && \
	for group in $(ALL_GROUPS); do \
		$$compile --generate-hashes --custom-compile-command "make lock" -c $$all --group $$group -o configs/requirements/$$group.txt || exit 1; \
	done
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-annotate --generate-hashes --custom-compile-command "make lock" \
		--group bench -o configs/requirements/bench.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-annotate --generate-hashes --custom-compile-command "make lock" \
		--group deploy -o configs/requirements/deploy.txt
ALL_GROUPS := serve train monitor dashboard dev setup

$(VENV)-deploy/.ready: configs/requirements/deploy.txt $(READY)
	$(PYTHON) -m venv --without-pip $(VENV)-deploy
	$(BIN)/uv pip sync -q --python $(VENV)-deploy/bin/python --require-hashes configs/requirements/deploy.txt
	touch $@

clean:
	rm -rf $(VENV) .credit build *.egg-info

$(VENV)-bench/.ready: configs/requirements/bench.txt $(READY)
	$(PYTHON) -m venv --without-pip $(VENV)-bench
	$(BIN)/uv pip sync -q --python $(VENV)-bench/bin/python --require-hashes configs/requirements/bench.txt
	touch $@

$(READY): $(LOCKS) configs/requirements/setup.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "python3 is older than 3.11; name a newer one: make PYTHON=python3.12")'
	@echo "setting up the environment in $(VENV): 1.7 GB, which takes some minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --require-hashes -r configs/requirements/setup.txt
	$(BIN)/uv pip sync -q --python $(BIN)/python --require-hashes configs/requirements/setup.txt $(LOCKS)
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $@
