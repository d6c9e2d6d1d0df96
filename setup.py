"""Which packages go into the wheel: found, not listed, so that a new service cannot be forgotten.

Everything else about the distribution stands in pyproject.toml.
"""

from setuptools import find_packages, setup

ROOTS = ["meshkit*", "services*", "llmops_cli*", "models*"]

setup(
    packages=[
        *find_packages(include=ROOTS),
        *(f"{name}" for name in find_packages(where="gen")),
        "llmops_cli.prompts",
    ]
)
