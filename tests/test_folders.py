"""Files that come with the program: found beside the package or inside it, and written where they last."""

import runpy
from pathlib import Path

import setuptools

from ovs_core import folders
from ovs_core.folders import data_folder, folder_for_new_weights, shipped_folder

REPOSITORY = Path(__file__).resolve().parents[1]


def test_a_clone_has_them_beside_the_package():
    assert shipped_folder("assets") == REPOSITORY / "assets"
    assert shipped_folder("checkpoints") == REPOSITORY / "checkpoints"


def test_a_wheel_has_them_inside_the_package(tmp_path):
    inside = tmp_path / "ovs_core" / "shipped" / "assets"
    inside.mkdir(parents=True)
    assert shipped_folder("assets", tmp_path / "ovs_core") == inside
    assert shipped_folder("checkpoints", tmp_path / "ovs_core") == tmp_path / "checkpoints"


def test_new_weights_of_a_clone_lie_beside_the_shipped_ones(tmp_path):
    assert folder_for_new_weights(REPOSITORY / "checkpoints") == REPOSITORY / "checkpoints"
    assert folder_for_new_weights(tmp_path) == tmp_path


def test_new_weights_of_an_installed_program_outlive_an_update(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    inside = Path(folders.__file__).parent / "shipped" / "checkpoints"
    assert folder_for_new_weights(inside) == tmp_path / "ovs-lens" / "checkpoints"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert data_folder() == Path.home() / ".local" / "share" / "ovs-lens"


def test_a_wheel_carries_what_the_program_looks_for(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    given = {}
    monkeypatch.setattr(setuptools, "setup", lambda **values: given.update(values))
    runpy.run_path("setup.py")
    carried = {}
    for package, folder in given["package_dir"].items():
        assert package in given["packages"]
        for pattern in given["package_data"][package]:
            for path in Path(folder).glob(pattern):
                carried[path.as_posix()] = f"{package.replace('.', '/')}/{path.relative_to(folder)}"
    assert carried["checkpoints/catalogue.json"] == "ovs_core/shipped/checkpoints/catalogue.json"
    assert carried["checkpoints/mini/mini.safetensors"].startswith("ovs_core/shipped/checkpoints/mini/")
    assert carried["assets/vocabularies/voc20.txt"] == "ovs_core/shipped/assets/vocabularies/voc20.txt"
    # Every file of the folder, one that is added tomorrow too.
    assets = {path.as_posix() for path in Path("assets").rglob("*") if path.is_file()}
    assert assets == {path for path in carried if path.startswith("assets/")}
    assert carried["assets/photos/cat.jpg"] == "ovs_core/shipped/assets/photos/cat.jpg"
    assert all("ovs_core" in package.split(".") for package in given["packages"])
    assert "ovs_core.cli" in given["packages"]
