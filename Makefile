# Everything a newcomer needs: `make demo`, `make test`. The virtual environment is made on demand.
# PYTHON=... names another Python than the first of these that is installed and new enough.
PYTHONS := python3.11 python3.12 python3.13 python3.14 python3
NEW_ENOUGH := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in $(PYTHONS); do $$p -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c .ci/constraints.txt

# Tests wait more than they compute, so there are more workers than processors; WORKERS=0 runs them one by one.
# A file stays in one worker, as its tests may share what takes long to make; in the order of the folders,
# as the long ones come first.
WORKERS ?= auto
PARALLEL = -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-agents test-lowest test-libraries test-backends test-read-back read-back-parts batch reliability soak soak-hostile fuzz grafana pictures lint types layers generated check bench forecast clean

demo: $(VENV)/.sidecar
	@$(BIN)/otel-budget demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(PARALLEL)

# Unit and property tests with the lower end of every range of pyproject.toml. The test client of an
# old starlette needs httpx, and is deprecated by the newest anyio.
test-lowest:
	@$(PYTHON) -m venv .venv-lowest
	@.venv-lowest/bin/python .ci/lowest.py > .venv-lowest/constraints.txt
	@.venv-lowest/bin/pip install --quiet --disable-pip-version-check -c .venv-lowest/constraints.txt \
		-e '.[dev]' httpx
	OTEL_BUDGET_EXAMPLES=20 .venv-lowest/bin/python -m pytest -q -W 'ignore:The anyio:DeprecationWarning' \
		$(PARALLEL) tests/unit tests/properties

# Real libraries in environments of their own (.venv-libraries), against a scripted provider.
test-libraries: $(VENV)/.dev
	$(BIN)/python -m pytest -m libraries tests/libraries

# Claude Code, Codex and Gemini CLI from npm (.venv-agents), against a scripted provider: some four
# minutes. With OTEL_BUDGET_UPDATE_GOLDEN=1 it writes what docs/agents.md is made from.
test-agents: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 -m agents tests/agents

# Sources through a real VictoriaMetrics, which shows late what it was given: four minutes of waiting.
test-backends: $(VENV)/.dev
	$(BIN)/python -m pytest -m backends tests/conformance tests/integration/test_victoriametrics.py

# What is pushed by OTLP, read back by others (`make read-back-parts` first).
test-read-back: $(VENV)/.dev
	$(BIN)/python -m pytest -m backends tests/integration/test_read_back.py

# A Prometheus 3 and an OpenTelemetry Collector out of Go modules, which receive OTLP in the tests; five minutes.
TOOLS := $(CURDIR)/.venv-tools
GO_INSTALL = GOBIN=$(TOOLS) CGO_ENABLED=0 go install
read-back-parts: $(TOOLS)/prometheus3 $(TOOLS)/otelcol

$(TOOLS)/prometheus3:
	$(GO_INSTALL) -tags remove_all_sd github.com/prometheus/prometheus/cmd/prometheus@v0.316.0
	@mv $(TOOLS)/prometheus $@

$(TOOLS)/otelcol: tests/support/otelcol.yaml
	$(GO_INSTALL) go.opentelemetry.io/collector/cmd/builder@v0.165.0
	$(TOOLS)/builder --config $< --skip-compilation
	cd build/otelcol && CGO_ENABLED=0 go build -trimpath -o $@ .

# Everything of docs/reliability.md at full length; the long ones first. Each rewrites its part of it.
RELIABILITY := tests/integration/test_many_sessions.py tests/integration/test_killed_sidecar.py \
	tests/integration/test_killed_run.py tests/integration/test_bad_sidecar.py \
	tests/integration/test_disk_full.py tests/integration/test_sidecar_process.py \
	tests/integration/test_doctor.py tests/integration/test_nudge.py \
	tests/integration/test_who_may_ask.py \
	tests/integration/test_client_limits.py tests/integration/test_operators.py \
	tests/integration/test_api_fuzzed.py tests/conformance/test_identity.py \
	tests/conformance/test_data_states.py tests/properties \
	tests/integration/test_frozen.py tests/integration/test_partial_answers.py \
	tests/integration/test_old_samples.py tests/integration/test_series_written_in_turn.py \
	tests/integration/test_one_id_several_processes.py tests/integration/test_never_judged.py \
	tests/integration/test_ends.py tests/integration/test_victoriametrics.py \
	tests/integration/test_slow_targets.py tests/integration/test_many_targets.py \
	tests/integration/test_bound_runs.py tests/integration/test_hostile_log.py \
	tests/integration/test_one_target_too_much.py tests/integration/test_expired_verdicts.py \
	tests/integration/test_one_stream_for_all_runs.py tests/integration/test_silent_clients.py \
	tests/unit/sidecar/storage/test_sqlite.py tests/unit/sidecar/storage/test_renewal.py tests/operations

# Some fifty minutes, half of it two operators' hours at the intervals that deploy/ ships.
reliability: $(VENV)/.dev
	$(MEASURE) $(BIN)/python -m pytest $(RELIABILITY)
	$(TAKE_UP)

# Six minutes: twenty batch jobs of 1 to 30 s, by each way and at intervals of 1, 15 and 60 s.
batch: $(VENV)/.dev
	$(MEASURE) $(BIN)/python -m pytest $(PARALLEL) tests/integration/test_batch.py
	$(TAKE_UP)

# Ten minutes: a thousand runs that come and go, under faults.
soak: $(VENV)/.dev
	$(MEASURE) $(BIN)/python -m pytest -s tests/soak/test_soak.py
	$(TAKE_UP)

# An hour: honest runs beside a hostile target and one that hangs. A third of a processor.
soak-hostile: $(VENV)/.dev
	$(MEASURE) $(BIN)/python -m pytest -s tests/soak/test_hostile_target.py
	$(TAKE_UP)

# An hour: six fuzzing targets, ten minutes each.
fuzz: $(VENV)/.fuzz
	$(MEASURE) $(BIN)/python -m tests.fuzz
	$(TAKE_UP)

MEASURE = @rm -f build/figures.jsonl; mkdir -p build; \
	OTEL_BUDGET_FULL=1 OTEL_BUDGET_FIGURES=build/figures.jsonl
TAKE_UP = @$(BIN)/python docs/reliability.py build/figures.jsonl && $(BIN)/python docs/generate.py

# Dashboards, alert rules and provisioning, out of the code in grafana/. RUNBOOKS=URL is the address of
# your copy of docs/runbooks.md, for alerts to link to.
grafana: $(VENV)/.dev
	$(BIN)/python -m grafana $(if $(RUNBOOKS),--runbooks $(RUNBOOKS))

# The pictures of the dashboards, out of their own queries over replayed runs; takes two minutes.
pictures: $(VENV)/.pictures
	$(BIN)/python docs/pictures.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python .ci/lengths.py

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

# Forecasts beside what came in recorded runs, and beside a real Prometheus; and what limits would have done to
# these runs: two minutes.
forecast: $(VENV)/.dev
	$(BIN)/python -m evaluation
	$(BIN)/python -m evaluation.limits
	$(BIN)/python -m evaluation.pool
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) .venv-agents .venv-libraries .venv-lowest

$(BIN)/pip:
	@[ -n "$(PYTHON)" ] || { echo "none of $(PYTHONS) is 3.11 or later, with venv: make PYTHON=..."; exit 1; }
	@echo "Making a virtual environment in $(VENV) with $(PYTHON) ..."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.sidecar: $(BIN)/pip pyproject.toml .ci/constraints.txt
	@echo "Installing otel-budget[sidecar,prices] ..."
	@$(PIP_INSTALL) -e '.[sidecar,prices]'
	@touch $@

$(VENV)/.dev: $(BIN)/pip pyproject.toml .ci/constraints.txt
	@echo "Installing otel-budget[dev] ..."
	@$(PIP_INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.sidecar

$(VENV)/.fuzz: $(VENV)/.dev
	@$(PIP_INSTALL) -e '.[fuzz]'
	@touch $@

$(VENV)/.pictures: $(VENV)/.dev
	@$(PIP_INSTALL) -e '.[pictures]'
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	@$(PIP_INSTALL) -e '.[bench]'
	@touch $@
