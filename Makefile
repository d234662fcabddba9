# Everything a newcomer needs: `make demo`, `make test`. The virtual environment is made on demand.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c .ci/constraints.txt

.PHONY: demo test test-libraries grafana pictures lint types layers generated check bench clean

demo: $(VENV)/.sidecar
	@$(BIN)/otel-budget demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest

# Real libraries in environments of their own (.venv-libraries), against a scripted provider.
test-libraries: $(VENV)/.dev
	$(BIN)/python -m pytest -m libraries tests/libraries

# Dashboards, alert rules and provisioning, out of the code in grafana/.
grafana: $(VENV)/.dev
	$(BIN)/python -m grafana

# The pictures of the dashboards, out of their own queries over replayed runs; takes two minutes.
pictures: $(VENV)/.pictures
	$(BIN)/python docs/pictures.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

layers: $(VENV)/.dev
	$(BIN)/lint-imports

generated: $(VENV)/.dev
	$(BIN)/python -m grafana --check
	$(BIN)/python docs/generate.py --check

check: lint types layers generated

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .venv-libraries

$(BIN)/pip:
	@echo "Making a virtual environment in $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.sidecar: $(BIN)/pip pyproject.toml .ci/constraints.txt
	@echo "Installing otel-budget[sidecar,prices] ..."
	@$(PIP_INSTALL) -e '.[sidecar,prices]'
	@touch $@

$(VENV)/.dev: $(BIN)/pip pyproject.toml .ci/constraints.txt
	@echo "Installing otel-budget[dev] ..."
	@$(PIP_INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.sidecar

$(VENV)/.pictures: $(VENV)/.dev
	@$(PIP_INSTALL) -e '.[pictures]'
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	@$(PIP_INSTALL) -e '.[bench]'
	@touch $@
