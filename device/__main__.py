"""`python -m device` is `sostenuto-device`."""

from __future__ import annotations

from device.app import main

main()
