"""What many tests need: an engine on tiny random towers (no weights, no network) and made-up photos."""

from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from tiny_clip import make_model

from ovs_core.checkpoints import WeightStore
from ovs_core.encoders.loading import CLIP_MEAN, CLIP_STD, LoadedModel
from ovs_core.encoders.towers import EncoderSpec
from ovs_core.engine import Engine
from ovs_core.image import Photo


@pytest.fixture(scope="session", autouse=True)
def own_temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep gradio's files apart from those of other programs: what closes deletes them by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        yield


def tiny_spec(name: str, seed: int = 0) -> EncoderSpec:
    """A pair of tiny random towers as an engine may be given them."""

    def load(store: WeightStore) -> LoadedModel:
        weights = {f"tiny-{seed}.safetensors": sha256(f"tiny {seed}".encode()).hexdigest()}
        return LoadedModel(make_model(seed), CLIP_MEAN, CLIP_STD, weights)

    return EncoderSpec(name, f"Tiny random towers {seed}", "", None, "embedded", "mini", 16, load)


def random_photo(height: int, width: int, seed: int = 0) -> Photo:
    """Blocks of random colours, so that neighbouring patches differ and areas exist."""
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, 256, (-(-height // 8), -(-width // 8), 3), np.uint8)
    return Photo(np.ascontiguousarray(blocks.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]))


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


@pytest.fixture
def engine(make_engine: Callable[..., Engine]) -> Engine:
    """An engine on tiny towers with nothing loaded yet."""
    return make_engine()
