"""What is on the card, for whoever has to answer for it: an SPDX 2.3 document in JSON.

Debian's packages come from dpkg's own record in the root, their licences from the copyright files
where those are in Debian's machine-readable form (DEP 5): all that its paragraphs name, joined by
AND, a name that SPDX does not know as ``LicenseRef-debian-NAME``. Python's come from the wheels'
metadata. What is not said clearly is ``NOASSERTION``: nothing is guessed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from device.image.lock import Lock
from device.image.wheels import describe, metadata

UNKNOWN = "NOASSERTION"

_SPDX = {
    "agpl-3": "AGPL-3.0-only",
    "apache-2": "Apache-2.0",
    "apache-2.0": "Apache-2.0",
    "artistic": "Artistic-1.0",
    "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "bsd-4-clause": "BSD-4-Clause",
    "bsl-1": "BSL-1.0",
    "cc0": "CC0-1.0",
    "cc0-1.0": "CC0-1.0",
    "curl": "curl",
    "expat": "MIT",
    "gfdl-1.3": "GFDL-1.3-only",
    "gfdl-1.3+": "GFDL-1.3-or-later",
    "gpl-1+": "GPL-1.0-or-later",
    "gpl-2": "GPL-2.0-only",
    "gpl-2.0": "GPL-2.0-only",
    "gpl-2+": "GPL-2.0-or-later",
    "gpl-2.0+": "GPL-2.0-or-later",
    "gpl-3": "GPL-3.0-only",
    "gpl-3+": "GPL-3.0-or-later",
    "isc": "ISC",
    "lgpl-2": "LGPL-2.0-only",
    "lgpl-2+": "LGPL-2.0-or-later",
    "lgpl-2.1": "LGPL-2.1-only",
    "lgpl-2.1+": "LGPL-2.1-or-later",
    "lgpl-3": "LGPL-3.0-only",
    "lgpl-3+": "LGPL-3.0-or-later",
    "mit": "MIT",
    "mpl-2.0": "MPL-2.0",
    "openssl": "OpenSSL",
    "psf-2": "PSF-2.0",
    "unicode-dfs-2016": "Unicode-DFS-2016",
    "unlicense": "Unlicense",
    "zlib": "Zlib",
}
"""DEP 5's names, in small letters, that mean exactly one licence of SPDX's list."""

_OWN = "LicenseRef-debian-"

_TROVE = {
    "Apache Software License": "Apache-2.0",
    "BSD License": UNKNOWN,
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}

_SPDX_EXPRESSION = re.compile(r"[A-Za-z0-9.+-]+( (AND|OR|WITH) \(?[A-Za-z0-9.+-]+\)?)*")


def paragraphs(text: str) -> list[dict[str, str]]:
    """The paragraphs of a Debian control file, each a mapping from field to value."""
    found = []
    for block in re.split(r"\n[ \t]*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if line[:1] in (" ", "\t") and name:
                fields[name] += "\n" + line.strip()
            elif ":" in line:
                name, _, value = line.partition(":")
                fields[name] = value.strip()
        if fields:
            found.append(fields)
    return found


def licences_of(copyright_file: str) -> str:
    """The licences of a package as an SPDX expression, or ``NOASSERTION``."""
    if "packaging-manuals/copyright-format/1.0" not in copyright_file.partition("\n\n")[0]:
        return UNKNOWN
    names: set[str] = set()
    for paragraph in paragraphs(copyright_file):
        if "Files" in paragraph and "License" in paragraph:
            short = paragraph["License"].splitlines()[0].strip()
            for name in re.split(r",?\s+(?:and|or|and/or)\s+|,\s*", short):
                plain = re.sub(r"[^A-Za-z0-9.-]+", "-", name.strip()).strip("-")
                if plain:
                    names.add(_SPDX.get(name.strip().lower(), f"{_OWN}{plain}"))
    return " AND ".join(sorted(names)) if names else UNKNOWN


def _licence_of_wheel(about: Mapping[str, list[str]]) -> str:
    for header in ("License-Expression", "License"):
        value = about.get(header, [""])[0].strip()
        value = {"Apache 2.0": "Apache-2.0", "MIT License": "MIT"}.get(value, value)
        if header == "License-Expression" and _SPDX_EXPRESSION.fullmatch(value):
            return value
        if value in _SPDX.values():
            return value
    known = {
        _TROVE.get(entry.rsplit(" :: ", 1)[-1], UNKNOWN)
        for entry in about.get("Classifier", [])
        if entry.startswith("License :: ") and entry != "License :: OSI Approved"
    }
    return known.pop() if len(known) == 1 else UNKNOWN


def _identity(kind: str, name: str) -> str:
    return f"SPDXRef-{kind}-{re.sub('[^A-Za-z0-9.-]', '-', name)}"


def _package(
    identity: str, name: str, version: str, licence: str, where: str, sha256: str | None, url: str
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "SPDXID": identity,
        "name": name,
        "versionInfo": version,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": False,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": licence,
        "copyrightText": UNKNOWN,
        "comment": where,
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": url,
            }
        ],
    }
    if sha256:
        entry["checksums"] = [{"algorithm": "SHA256", "checksumValue": sha256}]
    return entry


def debian_packages(
    lock: Lock, status: str, copyrights: Mapping[str, str], beside: Mapping[str, str]
) -> list[dict[str, Any]]:
    """An entry for each Debian package.

    Parameters
    ----------
    status : str
        dpkg's record of the root.
    copyrights : mapping
        Package: its copyright file, for those of the root.
    beside : mapping
        The same for the packages of which only files are taken.
    """
    sources = {
        fields["Package"]: fields.get("Source", fields["Package"]).split(" ")[0]
        for fields in paragraphs(status)
        if "Package" in fields
    }
    by_source: dict[str, str] = {}
    for package, text in sorted(copyrights.items()):
        by_source.setdefault(sources.get(package, package), text)
    entries = []
    for locked in sorted(lock.packages, key=lambda p: (p.place, p.name)):
        known = copyrights if locked.place == "root" else beside
        text = known.get(locked.name) or by_source.get(sources.get(locked.name, ""), "")
        entries.append(
            _package(
                _identity("deb", locked.name),
                locked.name,
                locked.version,
                licences_of(text),
                "Debian package" + ("" if locked.place == "root" else "; files for starting"),
                locked.sha256,
                f"pkg:deb/debian/{locked.name}@{locked.version.replace('+', '%2B')}?arch=arm64",
            )
        )
    return entries


def python_packages(wheels: Iterable[Path]) -> list[dict[str, Any]]:
    """An entry for each wheel."""
    entries = []
    for path in sorted(wheels):
        wheel = describe(path)
        entries.append(
            _package(
                _identity("pypi", wheel.name),
                wheel.name,
                wheel.version,
                _licence_of_wheel(metadata(path)),
                "Python package",
                wheel.sha256,
                f"pkg:pypi/{wheel.name}@{wheel.version}",
            )
        )
    return entries


def document(name: str, packages: list[dict[str, Any]], epoch_s: int) -> bytes:
    """The whole document; its own name is made from its contents, so that it is repeatable."""
    inside = msgspec.json.encode(packages)
    relations = [
        {
            "spdxElementId": "SPDXRef-image",
            "relationshipType": "CONTAINS",
            "relatedSpdxElement": package["SPDXID"],
        }
        for package in packages
    ]
    image = _package(
        "SPDXRef-image", name, "", "Apache-2.0", "card image", None, f"pkg:generic/{name}"
    )
    del image["versionInfo"]
    own = sorted(
        {
            name
            for package in packages
            for name in package["licenseDeclared"].split(" AND ")
            if name.startswith(_OWN)
        }
    )
    whole = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": "https://spdx.org/spdxdocs/"
        f"{name}-{hashlib.sha256(inside).hexdigest()[:32]}",
        "creationInfo": {
            "created": datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": ["Tool: sostenuto-device image build"],
        },
        "packages": [image, *packages],
        "hasExtractedLicensingInfos": [
            {
                "licenseId": name,
                "name": name.removeprefix(_OWN),
                "extractedText": "As in /usr/share/doc/PACKAGE/copyright of the packages that "
                "declare it, on the card.",
            }
            for name in own
        ],
        "relationships": [
            {
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relationshipType": "DESCRIBES",
                "relatedSpdxElement": "SPDXRef-image",
            },
            *relations,
        ],
    }
    return msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n"
