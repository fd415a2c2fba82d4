"""What several parity tests of the data room share."""

import pytest

from paribus.data.ops import native


@pytest.fixture
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change images by the C kernel, or by tensor operations (`both_ways` of helpers.native_kernels)."""
    if request.param == "tensors":
        monkeypatch.setattr(native, "has_color_kernel", lambda images: False)
    elif native.load_kernels() is None:
        pytest.skip("no C compiler")
