# Two commands for a newcomer: `make demo` and `make test`. Python ≥ 3.11 and git are all they need.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo demo-hospitals test install clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints/cpu.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints/cpu.txt --editable '.[dicom,track,nvflare,dev]'
	touch $@

demo: install
	$(BIN)/polysite compare recipes/studies/demo.yaml --out runs/demo
	$(BIN)/polysite compare recipes/studies/demo-hearts.yaml --out runs/demo-hearts

demo-hospitals: install
	recipes/hospitals/demo.sh $(BIN)/polysite

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

clean:
	rm -rf $(VENV) build dist runs/demo runs/demo-hearts runs/demo-hospitals .polysite-cache
