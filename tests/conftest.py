"""What many tests need: an engine on tiny random towers (no weights, no network) and made-up photos."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from towers import tiny_spec

from ovs_core.encoders.towers import EncoderSpec
from ovs_core.engine import Engine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, else one of two workers ends alone with them; random otherwise."""
    items.sort(key=lambda item: "ui" not in item.path.parts)


@pytest.fixture(scope="session", autouse=True)
def own_temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep gradio's files apart from those of other programs: what closes deletes them by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        yield


@pytest.fixture(scope="session")
def tiny_encoders() -> Mapping[str, EncoderSpec]:
    """Stands in for the registry's encoders; "mini" is the default one, "second" has other weights."""
    return MappingProxyType({"mini": tiny_spec("mini", 0), "second": tiny_spec("second", 1)})


@pytest.fixture
def make_engine(tiny_encoders: Mapping[str, EncoderSpec], tmp_path: Path) -> Callable[..., Engine]:
    """Engines on tiny towers, on the CPU, that write nowhere but in this test's folder."""

    def make(**settings: object) -> Engine:
        return Engine(
            **{"device": "cpu", "text_dir": tmp_path / "text", "encoders": tiny_encoders, **settings}
        )

    return make


@pytest.fixture(scope="module")
def served_engine(
    tiny_encoders: Mapping[str, EncoderSpec], tmp_path_factory: pytest.TempPathFactory
) -> Engine:
    """The engine on tiny towers that the tests of a file serve and share."""
    return Engine("cpu", offline=True, text_dir=tmp_path_factory.mktemp("text"), encoders=tiny_encoders)


@pytest.fixture
def engine(make_engine: Callable[..., Engine]) -> Engine:
    """An engine on tiny towers with nothing loaded yet."""
    return make_engine()
