"""How a piano stands: where its A4 lies, and how much wider than 2:1 its octaves are.

No piano is at A 440 for long. Its whole compass drifts with the seasons, and tuners make octaves a
little wide, because stiff strings sound sharp overtones and a beatless octave is one whose lower
string's second partial agrees with the upper string (Railsback, "Scale temperament as applied to
piano tuning", JASA 1938).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.note import A4_HZ


@dataclass(frozen=True, slots=True)
class Tuning:
    """A straight line through the piano's deviations from equal temperament.

    Attributes
    ----------
    offset_cents : float
        Of A4, against 440 Hz.
    stretch_cents : float
        By how much each octave is wider than 2:1.
    """

    offset_cents: float = 0.0
    stretch_cents: float = 0.0

    def sounding_hz(self, tempered_hz: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where this piano sounds what equal temperament puts at ``tempered_hz``."""
        octaves = np.log2(tempered_hz / A4_HZ)
        cents = self.offset_cents + self.stretch_cents * octaves
        hz: NDArray[np.float64] = tempered_hz * 2.0 ** (cents / 1200)
        return hz


CONCERT_PITCH = Tuning()
