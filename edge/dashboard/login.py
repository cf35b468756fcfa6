"""The device's own password: one for the settings, kept as scrypt makes it, guessed slowly.

scrypt after RFC 7914 with N = 2^14, r = 8, p = 1: 16 MiB and a few hundredths of a second for each
guess. After `FREE_GUESSES` wrong ones, from wherever they came, the door stays shut for a while
that doubles; one account has nobody else to lock out, and its owner can wait a minute. A device
without a password is the first visitor's, who chooses it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from edge.errors import UsageError

LEAST_CHARACTERS = 8
MOST_CHARACTERS = 256
PASSWORD_FILE = "dashboard-password.json"

FREE_GUESSES = 5
LONGEST_WAIT_S = 60.0

SESSION_S = 12 * 3600.0
"""A login lasts so long, or until the device's program ends."""

MOST_SESSIONS = 16

_COST = {"n": 2**14, "r": 8, "p": 1}
_MAX_MEMORY_BYTES = 64 * 1024 * 1024


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A password as it lies on disk: never itself."""

    salt: bytes
    key: bytes
    n: int
    r: int
    p: int


def _key(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(
        password.encode(), salt=salt, n=n, r=r, p=p, maxmem=_MAX_MEMORY_BYTES, dklen=32
    )


def keep_text(password: str) -> str:
    """``password`` as its file holds it: whoever reads it can only guess.

    Raises
    ------
    UsageError
        Too short or too long.
    """
    if not LEAST_CHARACTERS <= len(password) <= MOST_CHARACTERS:
        raise UsageError(
            f"a password of {len(password)} characters: allowed are {LEAST_CHARACTERS} to "
            f"{MOST_CHARACTERS}; choose another"
        )
    salt = secrets.token_bytes(16)
    kept = _Kept(salt=salt, key=_key(password, salt, **_COST), **_COST)
    return msgspec.json.encode(kept).decode()


def is_kept_text(text: str) -> bool:
    """Whether ``text`` is what `keep_text` makes."""
    try:
        msgspec.json.decode(text, type=_Kept)
    except msgspec.MsgspecError:
        return False
    return True


def keep_password(password: str, path: Path) -> None:
    """Make ``password`` the device's; only its own user can read the file.

    Raises
    ------
    UsageError
        Too short, too long, or the file cannot be written.
    """
    text = keep_text(password)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(path.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=0o600, exist_ok=False)
        fresh.write_text(text)
        fresh.replace(path)
    except OSError as error:
        raise UsageError(f"{path}: the password cannot be kept ({error.strerror})") from None


class TooManyGuessesError(Exception):
    """The door is shut for ``wait_s`` seconds."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many wrong passwords: wait {wait_s:.0f} s")
        self.wait_s = wait_s


class Doorkeeper:
    """Lets in whoever knows the password, and knows them again by a token.

    Any thread may ask. The file is read at every login, so that a new password counts at once.

    Parameters
    ----------
    path : Path
        Where `keep_password` put it.
    clock : callable
        Seconds that never jump.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._wrong = 0
        self._shut_until_s = 0.0
        self._sessions: dict[bytes, float] = {}

    @property
    def has_password(self) -> bool:
        """Whether there is a password at all; without one nobody is let in."""
        return self._path.exists()

    def choose(self, password: str) -> str:
        """The first visitor's password becomes the device's; a token for that visitor.

        Raises
        ------
        UsageError
            There is one already, or this one cannot be kept.
        """
        with self._lock:
            if self.has_password:
                raise UsageError("the device has a password by now; log in with it")
            keep_password(password, self._path)
            return self._token()

    def login(self, password: str) -> str | None:
        """A token for whoever knows the password; None for whoever does not.

        Raises
        ------
        TooManyGuessesError
            Not even looked at.
        """
        with self._lock:  # one guess at a time: the piano needs the processor
            now_s = self._clock()
            if now_s < self._shut_until_s:
                raise TooManyGuessesError(self._shut_until_s - now_s)
            if not self._fits(password):
                self._wrong += 1
                over = self._wrong - FREE_GUESSES
                if over >= 0:
                    self._shut_until_s = now_s + min(2.0 ** min(over, 10), LONGEST_WAIT_S)
                return None
            self._wrong = 0
            return self._token()

    def knows(self, token: str) -> bool:
        """Whether this token was given out and still counts."""
        with self._lock:
            return self._sessions.get(_digest(token), 0.0) > self._clock()

    def logout(self, token: str) -> None:
        """This token counts no more."""
        with self._lock:
            self._sessions.pop(_digest(token), None)

    def _token(self) -> str:
        now_s = self._clock()
        token = secrets.token_urlsafe(32)
        self._forget_old(now_s)
        self._sessions[_digest(token)] = now_s + SESSION_S
        return token

    def _forget_old(self, now_s: float) -> None:
        alive = sorted((end_s, key) for key, end_s in self._sessions.items() if end_s > now_s)
        self._sessions = {key: end_s for end_s, key in alive[-(MOST_SESSIONS - 1) :]}

    def _fits(self, password: str) -> bool:
        if len(password) > MOST_CHARACTERS:
            return False
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Kept)
            key = _key(password, kept.salt, kept.n, kept.r, kept.p)
        except (OSError, msgspec.MsgspecError, ValueError):
            return False
        return hmac.compare_digest(key, kept.key)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
