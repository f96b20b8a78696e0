"""The training command as a user types it: what it cannot do is one line and exit code 2."""

from pathlib import Path

import pytest

from ovs_core.cli import train


def only_line(capsys):
    """The line on stderr that names the command, the only one besides the log's."""
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = [line for line in captured.err.splitlines() if line.startswith("train: ")]
    assert "Traceback" not in captured.err
    return line


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (["coco"], "is not NAME=DIR"),
        (["movies=."], "with NAME one of head, coco"),
        (["coco=/no/such/folder"], "--data coco: /no/such/folder is not a folder"),
        (["pets=."], "--data is needed for coco"),
        ([], "--data is needed for coco"),
    ],
)
def test_bad_data_is_one_line(tmp_path, capsys, data, said):
    options = [f"--data={pair}" for pair in data]
    assert train.main(["fc-clip", *options, "--out", str(tmp_path / "out")]) == 2
    assert said in only_line(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("{", "is not JSON"),
        ("[1]", "must hold a JSON object"),
        ('{"stepps": 3}', "stepps"),
        (None, "No such file"),
    ],
)
def test_bad_recipe_is_one_line(tmp_path, capsys, recipe, said):
    config = tmp_path / "recipe.json"
    if recipe is not None:
        config.write_text(recipe)
    given = ["fc-clip", f"--data=coco={tmp_path}", "--config", str(config), "--out", str(tmp_path / "out")]
    assert train.main(given) == 2
    assert said in only_line(capsys)
    assert not (tmp_path / "out").exists()


def test_a_device_that_lacks_an_operation_is_one_line(tmp_path, capsys, monkeypatch):
    def missing(*_, **__):
        raise NotImplementedError("The operator 'aten::grid_sampler_2d_backward' is not there.\nMore.\n")

    monkeypatch.setattr(train, "train_fc_clip", missing)
    assert train.main(["fc-clip", f"--data=coco={tmp_path}", "--out", str(tmp_path / "out")]) == 2
    line = only_line(capsys)
    assert "grid_sampler_2d_backward" in line
    assert line.endswith("use --device cpu")


def test_towers_are_made_elsewhere(capsys):
    """The embedded tower is no head: its recipe is not part of what is installed."""
    with pytest.raises(SystemExit) as stop:
        train.main(["mini", "--out", str(Path("x"))])
    assert stop.value.code == 2
    assert "invalid choice: 'mini'" in capsys.readouterr().err
