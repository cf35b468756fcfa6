"""`python -m fleet` is `sostenuto-fleet`."""

from __future__ import annotations

from fleet.app import main

main()
