"""What other tools make of the same trained networks on the same data: ``docs/peers.md``.

``python -m benchmarks.studies.peers --tasks keyword_spotting=kws_ds_cnn.h5,DATA --peers litert-w8a8 qkeras-w4a8`` gives
each float network to each peer, and writes a row for each into ``benchmarks/results/peers.csv``. A row that is there is
not measured again. HGQ2 runs in an environment of its own, which ``scripts/hgq2_environment.sh`` makes. ``--report``
writes the table and the picture, with po2quant's rows of best_configs/RESULTS.csv beside them.
"""
