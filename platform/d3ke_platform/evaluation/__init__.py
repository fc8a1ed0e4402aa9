"""How good a model is: tables against labels and a baseline, gates, a report page.

`evaluate.evaluate` is the way in. Nothing is imported here, so that gates and tables can be used
without Ray.
"""
