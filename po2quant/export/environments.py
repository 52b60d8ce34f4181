"""Tools of others that live in environments of their own, since they want other versions of packages than po2quant."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

from po2quant.files import one_line

LONGEST_REASON = 400


class Environment(NamedTuple):
    """An environment with a tool.

    Args:
        package: the tool.
        variable: environment variable that names the interpreter of such an environment.
        folder: where it is below the current folder otherwise.
        script: what makes it there.
    """

    package: str
    variable: str
    folder: str
    script: str

    def interpreter(self) -> Path | None:
        """Return its interpreter, None where there is none."""
        path = Path(os.environ.get(self.variable, Path(self.folder, "bin", "python")))
        return path.absolute() if path.exists() else None

    def refusal(self) -> str | None:
        """Return a sentence where the environment is missing, else None."""
        if self.interpreter() is not None:
            return None
        return (
            f"{self.package} must be in an environment of its own: {self.script} makes it, and {self.variable} names "
            "its Python. Received: none"
        )

    def run(self, script: Path, folder: Path) -> None:
        """Run a script there on what is in a folder.

        Raises:
            ValueError: where the environment is missing, or the script ends with an error.
        """
        if reason := self.refusal():
            raise ValueError(reason)
        command = [str(self.interpreter()), "-I", str(script), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()] or ["nothing"]
            reason = one_line(lines[-1], LONGEST_REASON)
            raise ValueError(f"{self.package} must take the network. Received: {reason}")


ESP_PPQ = Environment("esp-ppq", "PO2QUANT_ESPDL_PYTHON", ".venv-espdl", "scripts/espdl_environment.sh")
FINN = Environment("FINN", "PO2QUANT_FINN_PYTHON", ".venv-finn", "scripts/finn_environment.sh")
TFLITE_MICRO = Environment(
    "tflite-micro", "PO2QUANT_TFLITE_MICRO_PYTHON", ".venv-tflite-micro", "scripts/tflite_micro_environment.sh"
)
