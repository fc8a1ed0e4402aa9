"""How much each parameter matters for the error."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import replace

from d3ke_platform.tuning.ledger import TrialRecord
from d3ke_platform.tuning.space import SearchSpace
from d3ke_platform.tuning.study import frozen_trial, new_study

_LOG = logging.getLogger(__name__)
FEWEST_TRIALS = 8
"""With fewer trials than this no importance is told."""


def importances(space: SearchSpace, records: Sequence[TrialRecord]) -> dict[str, dict[str, float]]:
    """Shares of the parameters by method ("fANOVA", "PED-ANOVA"), each summing to 1.

    fANOVA: share of the variance of the error over the whole space (random forest). PED-ANOVA:
    what tells the best tenth of the trials from the others. Trials that were stopped count with
    the lowest error they reached. Empty with too few trials, or if all errors are equal.
    """
    from optuna.importance import (
        FanovaImportanceEvaluator,
        PedAnovaImportanceEvaluator,
        get_param_importances,
    )

    study = new_study()
    for record in records:
        if (
            record.value is not None
            and record.state != "failed"
            and space.contains(record.parameters)
        ):
            study.add_trial(frozen_trial(space, replace(record, state="finished"), [], ""))
    errors = {trial.value for trial in study.trials}
    if len(study.trials) < FEWEST_TRIALS or len(errors) < 2:
        return {}
    shares: dict[str, dict[str, float]] = {}
    evaluators = {
        "fANOVA": FanovaImportanceEvaluator(seed=0),
        "PED-ANOVA": PedAnovaImportanceEvaluator(),
    }
    for name, evaluator in evaluators.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                shares[name] = get_param_importances(study, evaluator=evaluator)
        except (ValueError, RuntimeError) as error:
            _LOG.info("%s: no importances (%s)", name, error)
    return shares
