# The two commands of a newcomer: `make cluster-up` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
TEST_WORKERS ?= 2
BIN := $(VENV)/bin

.PHONY: help dev run-env cluster-up cluster-down cluster-status cluster-clean demo-failover test check proto proto-check bench bench-compare soak simulate mutants mutants-quick chaos contract-long docs clean

help:  ## lists the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 20

# The editable install warns of folders that bear the package's name; here there are none.
INSTALL = PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Klamm needs Python 3.11 or newer; name it with: make PYTHON=python3.12 ..."; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml | $(BIN)/python
	@echo "installing what a cluster needs"
	@$(INSTALL) .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo "installing what developers need"
	@$(INSTALL) '.[dev]'
	@mkdir -p .types && ln -sfn .. .types/klamm
	@touch $@ $(VENV)/.run

run-env: $(VENV)/.run  ## .venv with what a cluster needs

dev: $(VENV)/.dev  ## .venv with what developers need

cluster-up: run-env  ## starts 3 controllers and 3 brokers
	@$(BIN)/klamm up

cluster-down: run-env  ## stops them in good order; data stays
	@$(BIN)/klamm down

cluster-status: run-env  ## shows controllers, brokers and topics
	@$(BIN)/klamm status

cluster-clean: run-env  ## removes the data, after asking
	@$(BIN)/klamm clean

demo-failover: run-env  ## kills brokers and controllers under load and checks that nothing is lost
	@$(BIN)/klamm demo failover

# A file's tests stay together: they share its cluster.
test: dev  ## every test
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile

check: dev proto-check  ## lint, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

simulate: dev  ## a simulated cluster under faults: SEEDS=1000, or SEED=17 for the story of one
	PYTHONPATH=tests $(BIN)/python -m simulator $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),1000))

mutants: dev  ## planted bugs, each until the simulator finds it within LIMIT=2000 seeds; NAMES="..." for some of them
	PYTHONPATH=tests $(BIN)/python -m simulator.mutants --seeds $(or $(LIMIT),2000) --write $(NAMES)

mutants-quick: dev  ## the same within 25 seeds each, for those that are found so soon
	PYTHONPATH=tests $(BIN)/python -m simulator.mutants --quick 25

contract-long: dev  ## every Kafka client while brokers are killed, 45 times
	KLAMM_CONTRACT_ROUNDS=15 $(BIN)/python -m pytest tests/contract/test_faults.py

bench: dev  ## benchmarks, as a table
	$(BIN)/python tests/benchmarks/run.py

bench-compare: dev  ## Klamm beside Apache Kafka: ROWS="1 5 6" for some rows, ROUNDS=5, SCALE=0.1 for a quick look; writes docs/
	PYTHONPATH=tests $(BIN)/python -m benchmarks.compare --rows "$(ROWS)" $(if $(ROUNDS),--rounds $(ROUNDS)) \
	  --scale $(or $(SCALE),1) --publish

chaos: dev  ## faults on a cluster of real processes for MINUTES (as root each node has a host of its own), with a verdict
	$(BIN)/python -P tests/chaos/run.py --minutes $(or $(MINUTES),2) $(if $(SEED),--seed $(SEED))

soak: dev  ## steady load for MINUTES, of RATE or half the capacity, with RESTARTS brokers restarted each minute; nothing may grow
	$(BIN)/python tests/soak/run.py --minutes $(or $(MINUTES),5) --restarts $(or $(RESTARTS),3) \
	  $(if $(RATE),--rate $(RATE))

proto: dev  ## generates the gRPC code anew
	cd .types && ../$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --grpc_python_out=. \
	  --plugin=protoc-gen-mypy=../$(BIN)/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=../$(BIN)/protoc-gen-mypy_grpc \
	  --mypy_out=quiet:. --mypy_grpc_out=quiet:. klamm/proto/*.proto

proto-check: proto  ## generated code is what the contracts say
	git diff --exit-code -- proto

docs: dev  ## writes the generated parts of docs/
	$(BIN)/python docs/write_compatibility.py

clean:  ## removes build products and .venv
	rm -rf $(VENV) .types build dist *.egg-info
