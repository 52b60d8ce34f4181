"""Traits of fruit flies, on generated pictures: where the flies are, and three traits of each."""

from po2quant.benchmark import Benchmark, NetworkSpec, deferred
from po2quant.placement import Placement

from .recipe import RECIPE
from .score import selection, traits_score

BENCHMARK = Benchmark(
    "fly_traits",
    {
        name: NetworkSpec(deferred(f"{__name__}.classifier:{name}"), Placement(signed_input=False))
        for name in (
            "mobilenet_v3_small",
            "mobilenet_v3_small_plain",
            "mobilenet_v3_large",
            "mobilenet_v3_large_plain",
        )
    },
    deferred(f"{__name__}.data:load"),
    RECIPE,
    traits_score,
    selection,
    synthesize=deferred(f"{__name__}.data:synthesize"),
)
