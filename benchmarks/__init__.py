"""Tasks, a folder each, and what they share.

A folder whose ``__init__.py`` assigns ``BENCHMARK`` is a task, and ``po2quant`` finds it by the folder's name.
``shared`` is what tasks have in common, ``studies`` what measures, ``results`` what was measured.
"""

__path__ += [f"{path}/studies" for path in __path__]  # commands in results of before have no `studies` in their names
