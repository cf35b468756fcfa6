"""What can go wrong where Sostenuto meets the world, each with the exit code it earns.

An error's message is one line for a person: the value that was given, what is allowed,
what to do. The command line prints it without a traceback and leaves with ``exit_code``;
the live loop publishes it as an event and goes on.
"""

from __future__ import annotations

RESTART_EXIT = 75
"""Not an error: a command asked for a restart, and whoever started the program starts it again
(EX_TEMPFAIL of sysexits.h; systemd does with ``Restart=on-failure``)."""


class SostenutoError(Exception):
    """Base of every error a user can cause or mend."""

    exit_code = 1


class UsageError(SostenutoError):
    """Options or settings that do not fit together."""

    exit_code = 2


class InputError(SostenutoError):
    """An audio, MIDI or score file that cannot be used."""

    exit_code = 3


class ModelError(SostenutoError):
    """A note model that is missing, damaged, or does not match its manifest or this device."""

    exit_code = 4


class CatalogueError(SostenutoError):
    """A catalogue that is missing, damaged, or of another version."""

    exit_code = 4


class DeviceError(SostenutoError):
    """An audio or MIDI device that is not there or went away."""

    exit_code = 5


class BrokerError(SostenutoError):
    """A broker that cannot be reached or refuses."""

    exit_code = 5
