"""nbval waits five seconds between two messages of a kernel and has no option for it; a busy machine needs more."""

SECONDS = 120


def pytest_collection_modifyitems(items):
    for item in items:
        if hasattr(item, "output_timeout"):
            item.output_timeout = SECONDS
