# Needs Python 3.11, git and make; everything else goes into .venv.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed-pyproject.toml
SMOKE := .clipmend/smoke
# Rules call the installed `clipmend`, so that .venv must come first for them.
RUN := PATH="$(CURDIR)/$(BIN):$$PATH"
CORES ?= all

.PHONY: all test faults setup smoke slurm-smoke format check readme settings pages docs

## all: from nothing to the comparison table in results/report
all: setup
	$(RUN) snakemake --cores $(CORES) all

## test: the tests, those of whole graphs included
test: setup
	$(RUN) OMP_NUM_THREADS=1 python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile

## faults: faults and odd inputs by hundreds, all switches of Snakemake and DVC, more fuzz, the notebooks
faults: setup
	$(RUN) CLIPMEND_FAULTS='500 200' OMP_NUM_THREADS=1 python -m pytest -q \
		tests/workflow/test_faults.py tests/workflow/test_switches.py tests/engine/test_params_fuzz.py \
		tests/tools/test_odd_inputs.py tests/test_notebooks.py

## setup: create .venv, or bring it up to pyproject.toml
setup: $(INSTALLED)

## smoke: the whole path on a small grid, aside: params.yaml and results/ stay as they are
smoke: setup
	rm -rf $(SMOKE)
	mkdir -p $(SMOKE)
	cp -R Snakefile workflow profiles $(SMOKE)
	$(BIN)/clipmend preset smoke --out $(SMOKE)/params.yaml
	cd $(SMOKE) && $(RUN) snakemake --cores $(CORES) all
	cat $(SMOKE)/results/report/table.md

## slurm-smoke: the same through a Slurm of one node on loopback (root; Debian's packages)
slurm-smoke: setup
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[slurm]'
	$(RUN) tests/workflow/slurm_smoke.sh

## format: rewrite the sources in the house style
format: setup
	$(RUN) ruff check --fix-only src tests benchmarks studies notebooks
	$(RUN) ruff format src tests benchmarks studies notebooks
	$(RUN) snakefmt Snakefile workflow

## check: style, types, floors and prose
check: setup
	$(RUN) ruff check src tests benchmarks studies notebooks
	$(RUN) ruff format --check src tests benchmarks studies notebooks
	$(RUN) mypy
	$(RUN) lint-imports
	$(RUN) snakefmt --check Snakefile workflow
	$(RUN) python tests/prose.py

## readme: write the table and times of the finished run into README.md
readme: setup
	$(RUN) python -m clipmend.tools.readme

## settings: write docs/reference/settings.md, params.schema.json and an unedited params.yaml anew from the code
settings: setup
	$(BIN)/clipmend settings --write
	$(BIN)/clipmend preset default

## pages: write the generated pages of docs/ anew from the code and the committed results
pages: setup
	$(RUN) python -m clipmend.tools.site

## docs: build the site into site/, without a network; a broken link is an error
docs: setup
	$(RUN) NO_MKDOCS_2_WARNING=1 mkdocs build --strict

# What was installed is remembered by content, not by time: a checkout changes times. While pip
# works there is no such file, so that what a killed installation left behind is thrown away
# by the next one; when pip itself gives up, .venv is still what it was.
ifneq ($(shell cmp -s pyproject.toml $(INSTALLED) && echo same),same)
.PHONY: $(INSTALLED)
endif

PYTHON ?= $(firstword $(foreach name,python3.11 python3 python,$(shell \
	$(name) -c 'import sys; print("$(name)" * (sys.version_info[:2] == (3, 11)))' 2>/dev/null)))

$(INSTALLED):
	$(if $(PYTHON),,$(error clipmend needs Python 3.11, and neither python3.11 nor python3 is one))
	@echo "Installing clipmend into $(VENV): about 2 GB, some minutes the first time."
	@test -e $@ || rm -rf $(VENV)
	@test -e $(VENV) || $(PYTHON) -m venv $(VENV)
	@if test -e $@; then mv $@ $@.before; fi
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[dev]' \
		|| { if test -e $@.before; then mv $@.before $@; fi; exit 1; }
	@rm -f $@.before
	@cp pyproject.toml $@
