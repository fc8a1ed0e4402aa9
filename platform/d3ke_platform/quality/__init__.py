"""How good the labels of a data set are: one pass over them, and the page that shows it.

`report.write_quality` is the way in; it writes quality.html, quality.json and
quality_trials.parquet into the data set. `label_figures` is the pass, which evaluation and the
summary of prepare use too. Nothing is imported here, so that the pass loads no plotting.
"""
