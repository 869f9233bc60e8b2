# make test            lint, types, tests and doctests
# make demo            pretrain on a small set and see what was learned
# make demo DATA=DIR   the same on a folder of images
#
# Both first install into .venv when that was not done yet, or when what is
# to be installed changed.

PYTHON3 ?= python3
VENV ?= .venv
PYTHON = $(VENV)/bin/python
INSTALLED = $(VENV)/installed

.PHONY: demo test lint venv clean

demo: venv
	$(PYTHON) tools/demo.py $(if $(DATA),--data "$(DATA)") $(if $(DATASET),--dataset $(DATASET))

# Neighbors stay together as long as both workers have some: they share what
# their file builds.
test: lint
	$(PYTHON) -m pytest -n auto --maxprocesses 8 --dist worksteal

lint: venv
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy

venv: $(INSTALLED)

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	$(PYTHON3) -m venv $(VENV)
	$(PYTHON) -m pip install -c constraints.txt \
		-e '.[onedl,onedl-downstream,demo,tests,lint]'
	touch $@

clean:
	rm -rf $(VENV) build dist swav_plugin.egg-info .pytest_cache .mypy_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
