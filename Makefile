# Everything a checkout needs, from Python 3.11 on and nothing else. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python
# Each has a PostgreSQL and a mesh of its own, of up to 2 GiB; a server of yours is for one at a time.
TEST_PROCESSES ?= $(if $(LLMOPS_TEST_DATABASE_URL),0,2)

.PHONY: help env models run mesh test check format protos bench chaos soak dist clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

# $(call venv,folder,lock): an environment from a lock file with hashes; made again only when the lock changes.
define venv
	@echo "Building $(1) from $(2) (once; about a minute)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed; set PYTHON=python3.x") if sys.version_info < (3, 11) else None'
	@test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
	@$(1)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $(2)
	@touch $(1)/.complete-$(notdir $(2))
endef

# The checkout itself is on the path by a .pth file: edits count at once, and nothing is built.
define onpath
	@printf '%s\n%s\n' '$(CURDIR)' '$(CURDIR)/gen' > "$$($(RUN) -c 'import site; print(site.getsitepackages()[0])')/llmops-mesh.pth"
	@printf '#!%s\nfrom llmops_cli.main import main\nmain()\n' '$(CURDIR)/$(BIN)/python' > $(BIN)/llmops
	@chmod +x $(BIN)/llmops
endef

$(VENV)/.complete-runtime.lock: requirements/runtime.lock
	$(call venv,$(VENV),$<)
	$(call onpath)

$(VENV)/.complete-dev.lock: requirements/dev.lock
	$(call venv,$(VENV),$<)
	@touch $(VENV)/.complete-runtime.lock
	$(call onpath)

.venv-protos/.complete-protos.lock: requirements/protos.lock
	$(call venv,.venv-protos,$<)

env: $(VENV)/.complete-runtime.lock ## the environment

models: env ## the sentence encoder, exported once into .llmops/models
	@$(BIN)/llmops models export

run: models ## everything in one process, with a sample request; keeps serving
	@$(BIN)/llmops up --demo

mesh: models ## one process per service on loopback
	@$(BIN)/llmops up --processes deploy/local/processes.yaml

test: $(VENV)/.complete-dev.lock ## all tests (chaos, soak and bench are apart)
	@$(BIN)/llmops models export
	@$(BIN)/pytest -q -m "not chaos and not soak" --numprocesses $(TEST_PROCESSES) --dist loadfile

chaos: $(VENV)/.complete-dev.lock ## processes killed in mid-request
	@$(BIN)/llmops models export
	@$(BIN)/pytest -q -m chaos

soak: $(VENV)/.complete-dev.lock ## a million steps of the ledger against its model, and new random cases; minutes
	@$(BIN)/pytest -q -m soak
	@HYPOTHESIS_PROFILE=new-cases $(BIN)/pytest -q -m "not soak" --numprocesses $(TEST_PROCESSES) --dist loadfile tests/unit

check: $(VENV)/.complete-dev.lock .venv-protos/.complete-protos.lock ## lint, types, contract, architecture
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(RUN) protos/lint.py
	@$(RUN) protos/compatibility.py
	@PATH="$(CURDIR)/.venv-protos/bin:$$PATH" .venv-protos/bin/python protos/generate.py --check
	@$(BIN)/lint-imports
	@$(BIN)/pytest -q tests/architecture

format: $(VENV)/.complete-dev.lock ## format and fix
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

protos: .venv-protos/.complete-protos.lock ## regenerate gen/ from protos/
	@PATH="$(CURDIR)/.venv-protos/bin:$$PATH" .venv-protos/bin/python protos/generate.py

bench: models ## speed and memory, under 10 minutes; ARGS="--quick --peer name=url"
	@$(RUN) -m bench $(ARGS)

dist: $(VENV)/.complete-dev.lock ## a wheel in dist/
	@$(RUN) -m build --wheel --outdir dist .

clean: ## remove environments and state
	rm -rf $(VENV) .venv-protos .llmops build dist *.egg-info
