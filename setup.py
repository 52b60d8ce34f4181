"""The packages of a wheel; everything else stands in setup.cfg."""

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

TASKS, BEST_CONFIGS = "po2quant_benchmarks", "po2quant.best_configs"
MEASURING = ("benchmarks.studies*",)


class BuildPy(build_py):
    """Give the folders of the checkout the names that ``po2quant.bundled`` finds in a wheel."""

    def finalize_options(self) -> None:  # noqa: D102
        super().finalize_options()
        if self.editable_mode:
            return
        self.package_dir = {**self.package_dir, TASKS: "benchmarks", BEST_CONFIGS: "best_configs"}
        self.packages = [name.replace("benchmarks", TASKS) for name in self.packages if name.startswith("benchmarks")]
        self.packages += [*find_packages(include=["po2quant", "po2quant.*"]), BEST_CONFIGS]


setup(
    packages=find_packages(include=["po2quant", "po2quant.*", "benchmarks", "benchmarks.*"], exclude=MEASURING),
    cmdclass={"build_py": BuildPy},
)
