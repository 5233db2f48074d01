"""One thread, one seed, and a reason for every test that does not run."""

import pytest
import torch

torch.set_num_threads(1)
REASONS = {
    "slow": "slow: run with -m slow",
    "gpu": "no CUDA device",
    "network": "reaches beyond this machine: run with -m network",
    "browser": "drives a browser: run with -m browser",
}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def pytest_collection_modifyitems(config, items):
    asked = config.getoption("-m")
    for item in items:
        for marker, reason in REASONS.items():
            allowed = torch.cuda.is_available() if marker == "gpu" else marker in asked
            if item.get_closest_marker(marker) and not allowed:
                item.add_marker(pytest.mark.skip(reason=reason))
