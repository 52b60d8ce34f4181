"""Names of the files and folders of a run."""

from po2quant.bit_config import TRIAL_CONFIG as TRIAL_CONFIG
from po2quant.bit_config import TRIALS_FOLDER as TRIALS_FOLDER
from po2quant.weight_files import BEST_WEIGHTS as BEST_WEIGHTS

REQUEST_FILE, LOCK_FILE, ENVIRONMENT_FILE, RUN_LOG = "config.json", "run.lock", "env.json", "run.log"
"""What was asked for, who works on it, on which machine and data, and what was said."""

EPOCHS_CSV, DIAGNOSTICS_CSV, CHECKPOINT = "epochs.csv", "diagnostics.csv", "checkpoint.npz"
BEST_CONFIG, MODEL_FILE = "best_config.json", "model.keras"
SCORES_FILE, RESULTS_CSV = "scores.json", "results.csv"
TRIALS_CSV, SENSITIVITY_CSV, CURVATURE_CSV = "trials.csv", "sensitivity.csv", "curvature.csv"
FRONT_CSV, REPEATS_CSV, TRAINED_WIDTHS = "front.csv", "repeats.csv", "trained_widths.json"
FLOAT_FOLDER, COMPARISON_FOLDER, LAYERS_FOLDER = "float", "comparison", "layers"
WORKERS_FOLDER, TUNER_FOLDER = "workers", "tuner"
LAYERS_CSV, HISTOGRAMS_FILE, EXPORTS_CSV = "layers.csv", "histograms.json", "exports.csv"
REPORT_FILE = "report.html"
"""What a report is made of beside the tables, and the report."""
PLOTS_FOLDER, TENSORBOARD_FOLDER = "plots", "tensorboard"
STAGES_FOLDER = "stages"
