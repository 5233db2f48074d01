# make help lists the targets. The first target that needs Python makes .venv from requirements.lock; with an
# environment of your own (conda, environment.yml) say PY=python.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
ifeq ($(filter grouped-target,$(.FEATURES)),)
$(error this Makefile needs GNU make 4.3 or newer, this is $(MAKE_VERSION) (conda: environment.yml brings one))
endif

# --- figures each notebook promises: the runner, the notebook and tests/notebooks hold it to exactly these ---------
FIGURES_00_quickstart := 00_strip.png 00_quickstart.gif
FIGURES_01_pca_features := 01_layout.png 01_grid_world.png 01_grid_photographs.png 01_controls.png 01_agreement.png
FIGURES_02_flow_estimation := 02_similarity.png 02_flow.png 02_displacement.png 02_refinements.png 02_photographs.png
FIGURES_03_fourier_high_frequency := 03_variance.png 03_splat_variance.png 03_spectra.png 03_fused.png 03_denoising.png 03_frames.png
FIGURES_04_latent_fusion := 04_splat.png 04_winner.png 04_ways.png 04_strip.png 04_sweep.png
FIGURES_05_attention_replacement := 05_maps.png 05_strip.png 05_ablations.png 05_layers.png 05_lora.png
FIGURES_06_svd_attention_rotation := 06_maps.png 06_filmstrips.png 06_slices.png 06_ways.png 06_tuning.png
FIGURES_07_dual_sampling := 07_directions.png 07_slices.png 07_methods.png 07_table.png 07_weights.png 07_keyframes.png 07_film.gif
FIGURES_08_benchmark := 08_interpolation.png 08_displacement.png 08_cases.png 08_inbetweening.png
README_FIGURES := 00_quickstart.gif 07_film.gif 01_grid_world.png 02_similarity.png 03_spectra.png 04_splat.png \
	05_maps.png 06_maps.png 07_slices.png 08_displacement.png

# --- what may be set on the command line; anything else is a typing error ------------------------------------------
PARAMETERS := MODEL VIDEO_MODEL PAIR DEVICE PARAMS
SETTINGS := PY PYTHON JOBS THREADS LAB ONLY SHELL
given := $(foreach v,$(.VARIABLES),$(if $(filter command,$(word 1,$(origin $(v)))),$(v)))
unknown := $(filter-out $(PARAMETERS) $(SETTINGS) -%,$(given))
$(if $(unknown),$(error unknown parameter $(unknown): there are $(PARAMETERS), and the settings $(SETTINGS)))
quote = '$(subst ','\'',$(1))'
lower = $(shell echo $(1) | tr A-Z a-z)
PASS := $(strip $(foreach v,MODEL VIDEO_MODEL PAIR DEVICE,$(if $($(v)),-p $(call quote,$(call lower,$(v))=$($(v))))) \
	$(foreach p,$(PARAMS),-p $(call quote,$(p))))
FLAGS = $(foreach v,$(1),$(if $($(v)),--$(subst _,-,$(call lower,$(v))) $(call quote,$($(v)))))
$(if $(and $(PASS),$(filter notebooks,$(MAKECMDGOALS))),$(error the committed notebooks are made with their defaults: make notebooks takes no parameter))

NAMES := $(patsubst notebooks/%.ipynb,%,$(sort $(wildcard notebooks/[0-9]*.ipynb)))
$(if $(or $(NAMES),$(filter-out figures notebooks nbval,$(or $(MAKECMDGOALS),help))),,$(error there is no notebook notebooks/[0-9]*.ipynb here: run make at the root of a whole clone))
CORES := $(shell getconf _NPROCESSORS_ONLN)
# Two notebooks at once would share one GPU: DEVICE=cuda, or the default where there seems to be one
ASKED := $(or $(DEVICE),$(patsubst device=%,%,$(filter device=%,$(PARAMS))),auto)
GPU := $(or $(filter cuda% mps%,$(ASKED)),$(and $(filter auto,$(ASKED)),$(wildcard /dev/nvidia0 /dev/kfd /dev/dxg)$(filter Darwin,$(shell uname -s))))
JOBS ?= $(if $(GPU),1,$(if $(word 2,$(NAMES)),2,1))
THREADS ?= $(shell n=$$(( $(CORES) / $(JOBS) )); echo $$(( n > 0 ? n : 1 )))
MAKEFLAGS += --jobs=$(JOBS) --no-print-directory
export OMP_NUM_THREADS := $(THREADS)
export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))
PYTHON ?= python3
PY ?= .venv/bin/python
PIP := $(PY) -m pip install -qq --disable-pip-version-check
READY := $(if $(filter .venv/bin/python,$(PY)),.venv/.installed)

.PHONY: help figures test pytest unit nbval browser notebooks results models lab app bench bench-tables lint clean lock promises FORCE

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14
	@echo; echo "parameters of figures: MODEL=, VIDEO_MODEL=, PAIR=, DEVICE=, PARAMS='name=value ...' (of app: MODEL=, VIDEO_MODEL=, DEVICE=)"
	@echo "settings: PY=, JOBS=, THREADS=, LAB= (options of jupyter lab), ONLY= (which browser tests, as in pytest -k)"

.venv/.installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@echo "making .venv from requirements.lock, this takes a minute or two"
	@$(PYTHON) -m venv .venv
	@$(PIP) -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

# A stamp says what a notebook's results depend on: its code, the library, weights, tables, lock and parameters. It is
# rewritten only when that changes, so times of checked-out files decide nothing.
ifneq ($(NAMES),)
$(NAMES:%=build/%.stamp) &: FORCE $(READY)
	@$(PY) notebooks/run.py stamp $(PASS)
endif
define notebook
build/$(1).ipynb $(FIGURES_$(1):%=figures/%) &: build/$(1).stamp
	@$$(PY) notebooks/run.py execute $(1) --figures $(FIGURES_$(1))
endef
$(foreach name,$(NAMES),$(eval $(call notebook,$(name))))

figures: $(READY) $(NAMES:%=build/%.ipynb) $(foreach name,$(NAMES),$(FIGURES_$(name):%=figures/%)) ## run every stale notebook: figures/ and build/*.ipynb
	@:
notebooks: figures ## put the outputs of `make figures` into the notebooks that are committed, and renew figures/readme_*
	@$(PY) notebooks/run.py publish $(NAMES)
	@cd figures && for f in $(README_FIGURES); do cmp -s $$f readme_$$f || cp $$f readme_$$f; done

test: $(READY) ## all tests, and every notebook under nbval next to them
	@$(MAKE) --output-sync=target pytest nbval
pytest: $(READY)
	@OMP_NUM_THREADS=1 $(PY) -m pytest -q
unit: $(READY) ## the tests without the long ones, in four minutes
	@OMP_NUM_THREADS=1 $(PY) -m pytest -q -m "not long"
nbval: $(NAMES:%=nbval-%)
nbval-%: notebooks/%.ipynb $(READY) FORCE
	@INTERP_FIGURES=$(CURDIR)/build/nbval TQDM_DISABLE=1 $(PY) -m pytest -q -p tests.notebooks.patience -p no:cacheprovider \
		--nbval-lax --nbval-current-env --nbval-cell-timeout=900 --nbval-kernel-startup-timeout=180 $<
browser: $(READY) ## every notebook and the app in headless Chromium; screenshots in build/browser
	@$(PY) -c 'import playwright' 2>/dev/null || $(PIP) --no-build-isolation -e '.[browser]'
	@OMP_NUM_THREADS=1 $(PY) -m pytest -q -rs -m browser tests/browser $(if $(ONLY),-k $(call quote,$(ONLY)))

results: $(READY) ## renew the stale tables under data/results that notebooks read (half an hour, resumes)
	@OMP_NUM_THREADS=1 $(PY) -m experiments.studies
bench-tables: $(READY) ## both papers' tables on data with ground truth (hours on two cores, resumes)
	@OMP_NUM_THREADS=1 $(PY) -m experiments.studies.tables $(call FLAGS,MODEL VIDEO_MODEL DEVICE)
models: $(READY) ## train the embedded models from scratch (resumes)
	@OMP_NUM_THREADS=$(CORES) $(PY) -m experiments.train

lab: $(READY) ## open JupyterLab on the first notebook
	@OMP_NUM_THREADS=$(CORES) $(PY) -m jupyter lab --ServerApp.root_dir="$(CURDIR)" $(LAB) notebooks/00_quickstart.ipynb
app: $(READY) ## one page for the browser: two images in, a film out (on 127.0.0.1 alone)
	@OMP_NUM_THREADS=$(CORES) $(PY) -m interp_lib app $(call FLAGS,MODEL VIDEO_MODEL DEVICE)
bench: $(READY) ## how fast and in how much memory, as ratios: build/bench.json
	@OMP_NUM_THREADS=$(CORES) $(PY) -m experiments.speed --out build/bench.json $(call FLAGS,MODEL VIDEO_MODEL DEVICE)

lint: $(READY) ## ruff, a fresh lock, an environment without conflicts
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) .ci/lock.py check && $(PY) -m pip check
lock: $(READY) ## resolve pyproject.toml's dependencies afresh into requirements.lock
	@$(PY) .ci/lock.py write
clean: ## remove what make has made, except .venv
	@rm -rf build .pytest_cache .ruff_cache .hypothesis
	@find figures -mindepth 1 ! -name README.md ! -name 'readme_*' -delete
	@find interp_lib experiments tests -name __pycache__ -type d -prune -exec rm -rf {} +
promises: # read by the tests
	@$(foreach v,$(filter FIGURES_%,$(.VARIABLES)),echo '$(v:FIGURES_%=%): $($(v))';)
