"""Pictures show what there is, one epoch too."""

import matplotlib.image
import numpy as np
import pytest

from po2quant.report.plots import plot_epochs


@pytest.mark.parametrize("epochs", [1, 3])
def test_curves_are_seen_however_few_epochs_there_are(tmp_path, epochs):
    def coloured_pixels(name, values):
        rows = [{"epoch": float(epoch + 1), "val_loss": value} for epoch, value in enumerate(values)]
        (path,) = plot_epochs(rows, tmp_path / name, "digits")
        pixels = matplotlib.image.imread(path)[..., :3]
        return np.count_nonzero(np.ptp(pixels, axis=-1) > 0.3)

    of_legend = coloured_pixels("unknown", np.full(epochs, np.nan))
    assert coloured_pixels("known", np.linspace(0.5, 0.4, epochs)) > of_legend > 0
