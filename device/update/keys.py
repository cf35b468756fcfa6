"""Whom a fleet of pianos believes: an authority, and the keys that it lets sign updates.

A piano may think that it is 1970, or be asked in 2070 for the first time: every certificate counts
from 1970 until the end of 9999. So nothing ever expires, and a key that leaked is taken back by an
update whose key ring leaves its authority out. ECDSA on P-256, which every RAUC can verify.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path

from edge.errors import UsageError

FIRST_DAY = "19700101000000Z"
LAST_DAY = "99991231235959Z"

AUTHORITY_KEY = "authority.key"
KEYRING = "keyring.pem"

_CONFIGURATION = """\
[ca]
default_ca = fleet
[fleet]
database = {folder}/index
new_certs_dir = {folder}
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
x509_extensions = signer
[any]
commonName = supplied
[authority]
basicConstraints = critical,CA:TRUE,pathlen:0
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[signer]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[req]
distinguished_name = any
"""


def make_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """A key NAME.key with its certificate NAME.crt, signed by the folder's authority.

    An authority that is there is used; where there is none, one is made: ``authority.key``, to be
    kept where nobody reaches it, and ``keyring.pem``, which every device is given.

    Returns
    -------
    key, certificate : Path

    Raises
    ------
    UsageError
        A name that cannot be used or is taken, or no OpenSSL on this machine.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,40}", name) or name == "authority":
        raise UsageError(f"name {name!r}: letters, digits, dots and dashes, and not 'authority'")
    key, certificate = folder / f"{name}.key", folder / f"{name}.crt"
    if key.exists() or certificate.exists():
        raise UsageError(f"{key} is there already and stays; give another --name")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        authority, ring = folder / AUTHORITY_KEY, folder / KEYRING
        if authority.exists() != ring.exists():
            raise UsageError(f"{folder}: {AUTHORITY_KEY} or {KEYRING} is missing; put it back")
        if not authority.exists():
            title = f"Sostenuto updates {secrets.token_hex(4)}"
            _certify(folder, title, authority, ring, own=True)
        _certify(folder, f"{name} {secrets.token_hex(4)}", key, certificate, own=False)
    except OSError as error:
        raise UsageError(f"{error.filename or folder}: {error.strerror}") from error
    return key, certificate


def _certify(folder: Path, title: str, key: Path, certificate: Path, *, own: bool) -> None:
    """Make a key and certify it: by itself, as an authority, or by the folder's."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".key-") as name:
        work = Path(name)
        settings, request, index = work / "openssl.cnf", work / "request.pem", work / "index"
        settings.write_text(_CONFIGURATION.format(folder=work), encoding="utf-8")
        index.touch()
        fresh, signed = work / "fresh.key", work / "signed.crt"
        _openssl(
            *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-config", str(settings), "-subj", f"/CN={title}"),
            *("-keyout", str(fresh), "-out", str(request)),
        )
        signer: tuple[str, ...] = ("-selfsign", "-keyfile", str(fresh), "-extensions", "authority")
        if not own:
            ring = str(folder / KEYRING)
            signer = (
                "-cert",
                ring,
                "-keyfile",
                str(folder / AUTHORITY_KEY),
                "-extensions",
                "signer",
            )
        _openssl(
            *("ca", "-batch", "-notext", "-config", str(settings), "-in", str(request), *signer),
            *("-startdate", FIRST_DAY, "-enddate", LAST_DAY, "-out", str(signed)),
        )
        fresh.chmod(0o600)
        signed.chmod(0o644)
        fresh.replace(key)
        signed.replace(certificate)


def _openssl(*words: str) -> None:
    program = shutil.which("openssl")
    if program is None:
        raise UsageError("keys need OpenSSL's program: apt-get install openssl")
    before = os.umask(0o077)
    try:
        ran = subprocess.run(
            [program, *words], capture_output=True, text=True, errors="replace", check=False
        )
    finally:
        os.umask(before)
    if ran.returncode != 0:
        said = (ran.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UsageError(f"openssl {words[0]} fails: {said}")
