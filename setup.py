"""What pyproject.toml cannot say: the packages, and the folders of the repository that a wheel carries."""

from setuptools import find_packages, setup

# The same names as `ovs_core.folders`, which finds them again.
CHECKPOINTS = "ovs_core.shipped.checkpoints"
ASSETS = "ovs_core.shipped.assets"

setup(
    packages=[*find_packages(include=["ovs_core", "ovs_core.*"]), CHECKPOINTS, ASSETS],
    package_dir={CHECKPOINTS: "checkpoints", ASSETS: "assets"},
    package_data={
        "": ["*.css", "*.js", "*.html", "*.json", "py.typed"],
        # Named one by one: weights that were fetched into a clone lie in the same folder.
        CHECKPOINTS: ["catalogue.json", "mini/*", "mini/pictures/*"],
        ASSETS: ["*/*"],
    },
)
