"""A browser's MQTT carried to a broker that opens no websockets: bytes in, bytes out.

The server's half of a websocket after RFC 6455, as far as MQTT needs it: binary frames, pings and
the end. Nothing of the MQTT inside is read or changed; the browser logs in by itself, with what
account it has, and the broker says what that may do.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import selectors
import socket
import ssl
import struct
import time

from edge.publish.address import BrokerAddress

MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

CONNECT_S = 5.0
PATIENCE_S = 10.0
"""How long either side may take to let itself be written to."""

SILENCE_S = 60.0
"""A dashboard says something every eight seconds; one that is silent for so long is gone."""

MOST_FRAME_BYTES = 64 * 1024
"""A dashboard asks small questions."""

_READ_BYTES = 64 * 1024
_CONTINUED, _BINARY, _CLOSE, _PING, _PONG = 0, 2, 8, 9, 10
_GOING_AWAY = 1001


class WebsocketError(Exception):
    """The browser does not keep to RFC 6455."""


def accept_key(key: str) -> str:
    """The server's answer to ``Sec-WebSocket-Key`` (section 4.2.2)."""
    return base64.b64encode(hashlib.sha1((key + MAGIC).encode()).digest()).decode()


def frame(opcode: int, payload: bytes) -> bytes:
    """One whole frame from the server, unmasked (section 5.2)."""
    head = bytes([0x80 | opcode])
    if len(payload) < 126:
        return head + bytes([len(payload)]) + payload
    if len(payload) < 65536:
        return head + b"\x7e" + struct.pack("!H", len(payload)) + payload
    return head + b"\x7f" + struct.pack("!Q", len(payload)) + payload


class FrameReader:
    """Frames from a browser out of bytes that may be cut anywhere (section 5.2)."""

    def __init__(self) -> None:
        self._held = b""

    def push(self, read: bytes) -> list[tuple[int, bytes]]:
        """Opcode and payload of every frame that ``read`` completes.

        Raises
        ------
        WebsocketError
            Not masked, too large, or with an extension that nobody agreed on.
        """
        self._held += read
        frames = []
        while (found := self._first()) is not None:
            frames.append(found)
        return frames

    def _first(self) -> tuple[int, bytes] | None:
        held = self._held
        if len(held) < 2:
            return None
        if held[0] & 0x70:
            raise WebsocketError("an extension that was not agreed on")
        if not held[1] & 0x80:
            raise WebsocketError("a frame from a browser that is not masked")
        length, more = held[1] & 0x7F, 0
        if length > 125:
            more = 2 if length == 126 else 8
            length = int.from_bytes(held[2 : 2 + more].ljust(more, b"\0"), "big")
        if len(held) >= 2 + more and length > MOST_FRAME_BYTES:
            raise WebsocketError(f"a frame of {length} bytes; at most {MOST_FRAME_BYTES} are taken")
        mask_at = 2 + more
        start = mask_at + 4
        if len(held) < start + length:
            return None
        self._held = held[start + length :]
        return held[0] & 0x0F, _unmasked(held[start : start + length], held[mask_at:start])


def _unmasked(masked: bytes, mask: bytes) -> bytes:
    key = (mask * (len(masked) // 4 + 1))[: len(masked)]
    both = int.from_bytes(masked, "big") ^ int.from_bytes(key, "big")
    return both.to_bytes(len(masked), "big")


def reach(broker: BrokerAddress) -> socket.socket:
    """A connection to ``broker``, under TLS where it asks for that.

    Raises
    ------
    OSError
        Nobody there, or not trusted.
    """
    sock = socket.create_connection((broker.host, broker.port), CONNECT_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if broker.tls is not None:
        try:
            sock = broker.tls.context().wrap_socket(sock, server_hostname=broker.host)
        except OSError:
            sock.close()
            raise
    return sock


def carry(browser: socket.socket, broker: socket.socket) -> None:
    """Carry bytes both ways until one side ends; closes the broker's side.

    One thread does both, because a connection under TLS may not be read by one and written by
    another at the same time.
    """
    for sock in (browser, broker):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with selectors.DefaultSelector() as selector, contextlib.closing(broker):
        for sock in (browser, broker):
            selector.register(sock, selectors.EVENT_READ)
        # Whoever hung up, or must be hung up on: the same end.
        with contextlib.suppress(OSError, WebsocketError):
            _carry(browser, broker, selector)
        with contextlib.suppress(OSError):
            _write(browser, frame(_CLOSE, struct.pack("!H", _GOING_AWAY)))


def _carry(browser: socket.socket, broker: socket.socket, selector: selectors.BaseSelector) -> None:
    frames = FrameReader()
    heard_s = time.monotonic()
    while (left_s := heard_s + SILENCE_S - time.monotonic()) > 0:
        if not any(map(_deciphered, (browser, broker))):
            selector.select(left_s)
        if (back := _read(broker)) is not None:
            if not back:
                return
            _write(browser, frame(_BINARY, back))
        if (forth := _read(browser)) is not None:
            if not forth:
                return
            heard_s = time.monotonic()
            for opcode, payload in frames.push(forth):
                if opcode in (_BINARY, _CONTINUED):
                    _write(broker, payload)
                elif opcode == _PING:
                    _write(browser, frame(_PONG, payload))
                elif opcode != _PONG:  # the end, or a text, which MQTT never sends
                    return


def _deciphered(sock: socket.socket) -> bool:
    """Whether TLS has read more than it gave: the network itself will not say so."""
    return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0


def _read(sock: socket.socket) -> bytes | None:
    """What is there now, empty at the end; None for nothing yet."""
    sock.settimeout(0.0)
    try:
        return sock.recv(_READ_BYTES)
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return None


def _write(sock: socket.socket, payload: bytes) -> None:
    sock.settimeout(PATIENCE_S)
    sock.sendall(payload)
