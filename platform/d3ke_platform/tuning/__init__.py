"""Search for the settings of a training: Ray Tune runs the trials, Optuna proposes, ASHA stops."""
