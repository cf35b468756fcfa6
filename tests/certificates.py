"""Certificates as a house would make them, by OpenSSL: an authority, and whom it vouches for."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@dataclass(frozen=True)
class Signed:
    """A certificate and its key, PEM."""

    certificate: Path
    key: Path


class Authority:
    """An authority of its own in ``folder``."""

    def __init__(self, folder: Path, name: str = "house") -> None:
        folder.chmod(0o755)
        self._folder = folder
        self.certificate = folder / f"{name}.crt"
        self._key = folder / f"{name}.key"
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", f"/CN={name}"),
            *("-keyout", self._key, "-out", self.certificate),
        )

    def sign(self, name: str, *, host: str | None = None, expired: bool = False) -> Signed:
        """A certificate for ``name``; for a server also its ``host``, an IP address."""
        made = Signed(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        extensions.write_text(
            f"subjectAltName=IP:{host}\n" if host else "keyUsage=digitalSignature\n"
        )
        _openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-subj", f"/CN={name}", "-keyout", made.key, "-out", request),
        )
        # OpenSSL 3.0 dates a certificate by days only: -1 gives one that ended yesterday.
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key),
            *("-CAcreateserial", "-days", "-1" if expired else "2"),
            *("-extfile", extensions, "-out", made.certificate),
        )
        made.key.chmod(0o644)
        return made
