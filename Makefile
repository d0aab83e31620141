# Two commands for a new user: `make demo` and `make test`. Each sets up its own `.venv` on a fresh machine.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test witnesses docs lint format clean

help:  ## Show what can be made.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: .venv/with-model  ## Phantoms -> convert -> folds -> train -> evaluate -> pictures, in ./demo (about 3 minutes).
	$(BIN)/mammoprep demo demo --overwrite

test: .venv/with-dev lint  ## Lint, types and all tests.
	$(BIN)/pytest -n 2

witnesses: .venv/witnesses/made  ## What tests compare with, and skip without: other tools' readers; as root on Debian DCMTK and Chromium.
	apt-get install --yes --quiet --no-install-recommends dcmtk chromium

docs: .venv/with-dev  ## The pages of docs/ as HTML, in ./site.
	$(BIN)/mkdocs build --quiet --strict --config-file .ci/mkdocs.yml

.venv/witnesses/made:  # apart from our environment, with whose packages they do not agree
	$(PYTHON) -m venv .venv/witnesses
	.venv/witnesses/bin/python -m pip install --quiet --disable-pip-version-check datumaro==1.13.12 datasets==5.2.0 supervision==0.31.2
	@touch $@

lint: .venv/with-dev  ## ruff and mypy --strict.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/with-dev  ## Format and fix what ruff can fix.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## Remove the environment and the demo.
	rm -rf .venv demo site

.venv/made:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "mammoprep needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	@echo "Making a virtual environment in .venv"
	$(PYTHON) -m venv .venv
	@touch $@

.venv/with-model: .venv/made pyproject.toml constraints.txt
	@echo "Installing mammoprep with the model extra, pinned by constraints.txt (a minute or two)"
	$(INSTALL) --editable ".[model]"
	@touch $@

.venv/with-dev: .venv/made pyproject.toml constraints.txt
	@echo "Installing mammoprep with the model and dev extras, pinned by constraints.txt (a minute or two)"
	$(INSTALL) --editable ".[dev]"
	@touch $@ .venv/with-model
