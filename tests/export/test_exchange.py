"""What exchange files share."""

from __future__ import annotations

import pytest

from po2quant.export.exchange import require


def test_a_missing_package_names_the_extra():
    with pytest.raises(ValueError, match=r"an example needs no-such-package: pip install 'po2quant\[exchange\]'"):
        require("no_such_package.module", "an example")
