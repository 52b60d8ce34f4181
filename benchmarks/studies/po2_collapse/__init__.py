"""Why power-of-two training collapsed: the study's rule, ours, and each difference between them alone.

``python -m benchmarks.studies.po2_collapse --benchmark visual_wake_words --model mobilenet_v1 --weights
vww_mobilenet_v1.h5 --data-dir person_96.zip --configs flat16 --rules stock exact causes`` trains one network under
several rules and adds a row for each to ``benchmarks/results/po2-collapse.csv``; a row that is there is not run again,
and a run that was stopped goes on after its last epoch. ``--report`` writes tables and pictures into
``docs/po2-collapse.md``.
"""
