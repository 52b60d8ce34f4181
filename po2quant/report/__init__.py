"""Tables and pictures from results and run folders."""

from po2quant.callable_package import make_callable

make_callable(__name__)
