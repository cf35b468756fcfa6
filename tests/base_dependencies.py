"""Which installed distributions a device has: the base dependencies and what they need.

Worked out from pyproject.toml and the metadata of what is installed here, so that a test
can lay out a device's environment without asking a package index.
"""

from __future__ import annotations

import tomllib
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent


def base_requirements() -> list[Requirement]:
    """The base dependencies as pyproject.toml states them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(line) for line in project["dependencies"]]


def _wanted_here(requirement: Requirement, extras: set[str]) -> bool:
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({"extra": extra}) for extra in extras | {""})


def base_distributions() -> list[Distribution]:
    """Everything that `pip install sostenuto` brings along, sostenuto itself left out."""
    found: dict[str, Distribution] = {}
    waiting = base_requirements()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        seen = name in found
        if seen and not requirement.extras:
            continue
        found[name] = distribution(requirement.name)
        waiting += [
            needed
            for needed in map(Requirement, found[name].requires or [])
            if _wanted_here(needed, set(requirement.extras))
            and canonicalize_name(needed.name) not in found
        ]
    return list(found.values())
