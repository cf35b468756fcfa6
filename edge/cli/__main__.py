"""`python -m edge.cli` is `sostenuto`."""

from __future__ import annotations

from edge.cli.app import main

main()
