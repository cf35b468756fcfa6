"""A browser's MQTT carried to a broker that opens no websockets: bytes in, bytes out.

The server's half of a websocket after RFC 6455, as far as MQTT needs it: binary frames, pings and
the end. Nothing of the MQTT inside is read or changed; the browser logs in by itself, with what
account it has, and the broker says what that may do.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import struct
import threading
from io import BufferedIOBase

from edge.publish.address import BrokerAddress

MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

CONNECT_S = 5.0

SILENCE_S = 60.0
"""A dashboard says something every eight seconds; one that is silent for so long is gone."""

MOST_FRAME_BYTES = 64 * 1024
"""A dashboard asks small questions."""

_READ_BYTES = 64 * 1024
_CONTINUED, _BINARY, _CLOSE, _PING, _PONG = 0, 2, 8, 9, 10


class WebsocketError(Exception):
    """The other side does not keep to RFC 6455."""


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


def read_frame(stream: BufferedIOBase) -> tuple[int, bytes]:
    """Opcode and payload of the next frame from a browser.

    Raises
    ------
    WebsocketError
        Not masked, too large, or an extension that nobody agreed on.
    EOFError
        The connection ended.
    """
    first, second = _exactly(stream, 2)
    if first & 0x70:
        raise WebsocketError("an extension that was not agreed on")
    if not second & 0x80:
        raise WebsocketError("a frame from a browser that is not masked")
    length = second & 0x7F
    if length == 126:
        (length,) = struct.unpack("!H", _exactly(stream, 2))
    elif length == 127:
        (length,) = struct.unpack("!Q", _exactly(stream, 8))
    if length > MOST_FRAME_BYTES:
        raise WebsocketError(f"a frame of {length} bytes; at most {MOST_FRAME_BYTES} are taken")
    mask = _exactly(stream, 4)
    return first & 0x0F, _unmasked(_exactly(stream, length), mask)


def _exactly(stream: BufferedIOBase, count: int) -> bytes:
    read = stream.read(count)
    if len(read) < count:
        raise EOFError
    return read


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


def carry(browser: socket.socket, heard: BufferedIOBase, broker: socket.socket) -> None:
    """Carry bytes both ways until one side ends; closes the broker's side.

    Parameters
    ----------
    browser : socket
        After the handshake; written by one hand at a time.
    heard : file
        What the browser says, from the first frame on.
    """
    browser.settimeout(SILENCE_S)
    browser.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    broker.settimeout(None)
    writing = threading.Lock()

    def say(opcode: int, payload: bytes) -> None:
        with writing:
            browser.sendall(frame(opcode, payload))

    def back() -> None:
        with contextlib.suppress(OSError):
            while read := broker.recv(_READ_BYTES):
                say(_BINARY, read)
        with contextlib.suppress(OSError):
            say(_CLOSE, struct.pack("!H", 1001))
            browser.shutdown(socket.SHUT_RDWR)

    hand = threading.Thread(target=back, name="dashboard-bridge", daemon=True)
    hand.start()
    try:
        while True:
            opcode, payload = read_frame(heard)
            if opcode in (_BINARY, _CONTINUED):
                broker.sendall(payload)
            elif opcode == _PING:
                say(_PONG, payload)
            elif opcode != _PONG:  # the end, or a text, which MQTT never sends
                break
    except (OSError, EOFError, WebsocketError):
        pass  # it hung up, or must be hung up on: the same end
    finally:
        with contextlib.suppress(OSError):
            broker.shutdown(socket.SHUT_RDWR)
        hand.join(CONNECT_S)
        broker.close()
