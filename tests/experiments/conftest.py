"""The tiny model of the conformance folder, as in the tests of the benchmark."""

from tests.bench.conftest import flow, images, tiny  # noqa: F401
