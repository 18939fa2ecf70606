"""A cache of built kernels of the session's own."""

from collections.abc import Iterator

import pytest
import torch

from models.kernels import build
from models.kernels.cross_entropy import available


@pytest.fixture(scope="session", autouse=True)
def kernel_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Build into a temporary folder, with the kernels switched on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BTSR_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("BTSR_KERNELS", "auto")
        yield


@pytest.fixture
def native(kernel_cache: None) -> None:
    """Skip where this machine cannot have the kernels; that its compiler refuses them is a mistake in them."""
    if (report := available()).name == "torch":
        if "do not build" in str(report.reason) and "clang" not in build._compiler():
            pytest.fail(str(report.reason))
        pytest.skip(f"no native kernels: {report.reason}")


@pytest.fixture(scope="session")
def narrow_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A cache for builds of another instruction set than this processor's best."""
    return str(tmp_path_factory.mktemp("narrow"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread unless a test asks for more: competing teams of threads stall each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=(1, 2), ids="{} thread".format)
def threads(request: pytest.FixtureRequest, one_thread: None) -> int:
    """The number of threads that the test runs on."""
    count: int = request.param
    torch.set_num_threads(count)
    return count
