"""Search of bit widths."""

from po2quant.callable_package import make_callable
from po2quant.search.problem import Goal, SearchProblem
from po2quant.search.run import SearchResult, run_search
from po2quant.search.settings import SearchSettings
from po2quant.search.space import SearchSpace, config_from_values
from po2quant.search.strategies import STRATEGIES
from po2quant.search.trial_log import TrialLog, TrialRow
from po2quant.search.tuner import BitWidthTuner

__all__ = [
    "STRATEGIES",
    "BitWidthTuner",
    "Goal",
    "SearchProblem",
    "SearchResult",
    "SearchSettings",
    "SearchSpace",
    "TrialLog",
    "TrialRow",
    "config_from_values",
    "run_search",
]

make_callable(__name__)
