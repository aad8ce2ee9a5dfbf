# Everything a newcomer needs: `make demo` shows the main job, `make test` passes the tests. Both set up what they need.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-service test-slow lint types imports docs fresh check clean

demo: $(VENV)/.demo
	$(BIN)/amodal demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2

# Three workers, each with servers of its own: most of the time these tests wait for a server's clock.
test-service: $(VENV)/.dev
	$(BIN)/python -m pytest -n 3 -m "service"

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 -m "slow"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

imports: $(VENV)/.dev
	$(BIN)/lint-imports

docs: $(VENV)/.dev
	$(BIN)/python tools/render.py

fresh: $(VENV)/.dev
	$(BIN)/python tools/render.py --check

check: lint types imports fresh

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing amodal and the packages of the demonstration (once, a minute or two) ..."
	$(PIP) -e ".[demo]"
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing amodal and its development tools (once, a minute or two) ..."
	$(PIP) -e ".[dev]"
	@touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) amodal-demo .pytest_cache .mypy_cache .ruff_cache
