"""One connection to a broker, from the first byte to the last, after MQTT 5.0 and 3.1.1.

paho-mqtt speaks the protocol and nothing else here: it keeps no queue, starts no thread and
never reconnects by itself, because one hand has to do each of these. A `Connection` is used
by one thread, is opened once and thrown away when it is lost.

MQTT 5 would let us name the largest packet that we take. We do not: mosquitto 2.0.11 counts every
message that it keeps back for that reason as on its way to us for ever, and after twenty of them
no command comes through any more. The broker's own `max_packet_size` is the place.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, Protocol, cast

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.errors import BrokerError, UsageError
from edge.messages import Availability
from edge.publish.address import BrokerAddress

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
"""How long a broker may take to answer the network and then the login; paho's own value."""

GREETING_S = 2.0
"""How long a broker may take to answer MQTT 5. One that knows only 3.1.1 should refuse; amqtt 0.12
waits for more bytes instead, and gets the older greeting after this."""

KEEPALIVE_S = 15
"""A broker that is silent for so long is asked, and left when it stays silent for as long again."""

WINDOW = 20
"""Messages of QoS 1 on their way at once, unless the broker allows fewer; paho's own value."""

_UNSPECIFIED = 128
UNSUPPORTED_VERSION = 132
_NO_PERMISSION = (134, 135)
_SESSION_TAKEN = 142
_DRAIN_BYTES = 4096


class ProtocolRefusedError(BrokerError):
    """The broker does not speak this version of MQTT."""


class LoginRefusedError(BrokerError):
    """The broker does not know this user, or not this password."""


class Guest(Protocol):
    """Somebody else who speaks through the publisher's connection, in the publisher's thread.

    What it does there is done at once: it waits for nothing and raises nothing.
    """

    @property
    def topics(self) -> tuple[str, ...]:
        """Filters to subscribe to at every connect, QoS 1."""

    def greeting(self) -> list[tuple[str, bytes]]:
        """Topics and payloads to be retained at the broker, said at every connect."""

    def received(self, topic: str, payload: bytes, retain: bool) -> list[tuple[str, bytes]]:
        """A message came; what is to be retained in answer."""


class Waker:
    """Lets any thread interrupt the publisher's wait, by a byte through a pair of sockets."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def wake(self) -> None:
        # Full: the sleeper will wake anyway. Closed: nobody sleeps.
        with contextlib.suppress(OSError):
            self._writer.send(b"\0")

    def fileno(self) -> int:
        return self._reader.fileno()

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._reader.recv(_DRAIN_BYTES):
                pass

    def wait(self, timeout_s: float) -> None:
        """Sleep until somebody wakes, or ``timeout_s`` have passed."""
        with selectors.DefaultSelector() as selector:
            selector.register(self, selectors.EVENT_READ)
            selector.select(max(0.0, timeout_s))
        self.clear()

    def close(self) -> None:
        self._reader.close()
        self._writer.close()


class Connection:
    """A client of one broker while it lasts.

    Parameters
    ----------
    will_topic : str or None
        Where the broker says ``offline`` when this connection breaks without a farewell.
    waker : Waker
        Ends the wait in `service` when there is something to send.
    on_acknowledged : callable
        Called with a message id and None, or with the reason why the broker refused it.
    on_message : callable, optional
        Called with topic, payload and retain flag of what came on a topic of `subscribe`.
    """

    def __init__(
        self,
        address: BrokerAddress,
        client_id: str,
        protocol: MQTTProtocolVersion,
        will_topic: str | None,
        waker: Waker,
        on_acknowledged: Callable[[int, str | None], None],
        on_message: Callable[[str, bytes, bool], None] | None = None,
    ) -> None:
        self._address = address
        self._on_message = on_message
        self._waker = waker
        self._selector = selectors.DefaultSelector()
        self._on_acknowledged = on_acknowledged
        self._connack: ReasonCode | None = None
        self._tls_faults: list[ssl.SSLError] = []
        self._lost: str | None = None
        self.window = WINDOW
        self._speaks_5 = protocol == MQTTProtocolVersion.MQTTv5
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=protocol,
            clean_session=None if self._speaks_5 else True,
            reconnect_on_failure=False,
            transport="tcp" if address.path is None else "websockets",
        )
        if address.path is not None:
            self._client.ws_set_options(path=address.path)
        self._client.connect_timeout = CONNECT_TIMEOUT_S
        self._client.max_inflight_messages_set(WINDOW)
        if will_topic is not None:
            self._client.will_set(will_topic, Availability.OFFLINE.encode(), qos=1, retain=True)
        if address.username is not None:
            self._client.username_pw_set(address.username, address.password)
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._disconnected
        self._client.on_publish = self._published
        self._client.on_message = self._received
        self._client.on_subscribe = self._subscribed

    def open(self, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """Connect and log in.

        Raises
        ------
        ProtocolRefusedError
            The broker does not speak this version of MQTT.
        BrokerError
            Nobody there, no answer, or refused: one line that says which.
        """
        self._client.connect_timeout = min(CONNECT_TIMEOUT_S, max(0.1, timeout_s))
        try:
            if self._address.tls is not None:
                context = self._address.tls.context()
                context.sslsocket_class = _witness(self._tls_faults)
                self._client.tls_set_context(context)
            self._client.connect(self._address.host, self._address.port, keepalive=KEEPALIVE_S)
        except UsageError as error:
            raise BrokerError(f"broker {self._address}: {error}") from None
        except (OSError, UnicodeError) as error:
            raise BrokerError(f"broker {self._address}: {network_trouble(error)}") from None
        if self._client.socket() is None:
            self._judge_login()
        self._inner_socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(self._socket(), selectors.EVENT_READ)
        self._selector.register(self._waker, selectors.EVENT_READ)
        self._await_answer(min(timeout_s, GREETING_S) if self._speaks_5 else timeout_s)
        self._judge_login()

    def _await_answer(self, timeout_s: float) -> None:
        until_s = time.monotonic() + timeout_s
        while self._connack is None and self._lost is None:
            remaining_s = until_s - time.monotonic()
            if remaining_s <= 0:
                silent = ProtocolRefusedError if self._speaks_5 else BrokerError
                raise silent(
                    f"broker {self._address}: something is there but gives no MQTT answer; "
                    "check host and port"
                )
            self.service(remaining_s)

    def _judge_login(self) -> None:
        if self._connack is None:
            if self._tls_faults:
                trouble = network_trouble(self._tls_faults[-1])
                raise BrokerError(f"broker {self._address}: {trouble}")
            raise ProtocolRefusedError(
                f"broker {self._address}: hangs up at the greeting; "
                "does this port want TLS, a websocket, or neither?"
            )
        if self._connack.value == UNSUPPORTED_VERSION:
            raise ProtocolRefusedError(f"broker {self._address}: speaks no MQTT 5")
        if self._connack.value in _NO_PERMISSION:
            who = f"user {self._address.username!r}" if self._address.username else "no user"
            raise LoginRefusedError(
                f"broker {self._address}: refuses the login ({self._connack}) with {who}; "
                "check user and password in mqtt://user:password@host:port"
            )
        if self._connack.is_failure:
            raise BrokerError(f"broker {self._address}: refuses the connection ({self._connack})")

    @property
    def lost(self) -> str | None:
        """Why the connection is no more, or None while it stands."""
        return self._lost

    @property
    def ready(self) -> bool:
        """Whether the network takes more: nothing is left over from the last message."""
        return self._lost is None and not self._client.want_write()

    def send(self, topic: str, payload: bytes, qos: int, retain: bool) -> int:
        """Hand one message to the network; returns its id for `on_acknowledged`."""
        return self._client.publish(topic, payload, qos=qos, retain=retain).mid

    def subscribe(self, topics: tuple[str, ...]) -> None:
        """Ask for messages on ``topics``, QoS 1.

        With MQTT 5 a message that its sender wanted retained says so even when it comes live.
        """
        if not topics:
            return
        if self._speaks_5:
            options = SubscribeOptions(qos=1, noLocal=True, retainAsPublished=True)
            self._client.subscribe([(topic, options) for topic in topics])
        else:
            self._client.subscribe([(topic, 1) for topic in topics])

    def service(self, timeout_s: float) -> None:
        """Wait for the network or the waker for ``timeout_s`` at most, then read and write."""
        client = self._client
        if self._lost is not None or client.socket() is None:
            self._lost = self._lost or "the broker hung up"
            return
        mask = self._wait(timeout_s)
        codes = []
        if mask & selectors.EVENT_WRITE:
            codes.append(client.loop_write())
        if mask & selectors.EVENT_READ:
            codes.append(client.loop_read())
            while not any(codes) and self._deciphered():
                codes.append(client.loop_read())
        codes.append(client.loop_misc())
        failed = [code for code in codes if code != MQTTErrorCode.MQTT_ERR_SUCCESS]
        if failed and self._lost is None:
            self._lost = paho.error_string(failed[0])

    def _wait(self, timeout_s: float) -> int:
        """Sleep until the network is ready for something; returns what it is ready for."""
        if self._deciphered():
            timeout_s = 0.0
        writing = selectors.EVENT_WRITE if self._client.want_write() else 0
        self._selector.modify(self._socket(), selectors.EVENT_READ | writing)
        ready = self._selector.select(max(0.0, timeout_s))
        masks = {key.fileobj: mask for key, mask in ready}
        if masks.pop(self._waker, 0):
            self._waker.clear()
        return sum(masks.values()) | (selectors.EVENT_READ if self._deciphered() else 0)

    def _deciphered(self) -> bool:
        """Whether TLS has read more than it gave: the network itself will not say so."""
        sock: Any = self._client.socket()
        return self._address.tls is not None and sock is not None and sock.pending() > 0

    def farewell(self) -> None:
        """Disconnect in form: the broker forgets the will."""
        self._client.disconnect()
        self.abandon()

    def abandon(self) -> None:
        """Hang up without a word: the broker announces ``offline`` by itself."""
        self._lost = self._lost or "closed"
        self._selector.close()
        sock = self._client.socket()
        if sock is not None:
            self._socket().close()

    def _socket(self) -> socket.socket:
        return cast(socket.socket, self._client.socket())

    def _inner_socket(self) -> socket.socket:
        """Without the websocket around it, if there is one."""
        sock = self._socket()
        return cast(socket.socket, getattr(sock, "_socket", sock))

    def _connected(
        self,
        _client: Any,
        _userdata: Any,
        _flags: Any,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._connack = reason
        self.window = min(WINDOW, getattr(properties, "ReceiveMaximum", WINDOW))

    def _disconnected(
        self, _client: Any, _userdata: Any, _flags: Any, reason: ReasonCode, _properties: Any
    ) -> None:
        if self._lost is None:
            taken = reason.value == _SESSION_TAKEN
            hint = "; another listener uses the same device name on this board" if taken else ""
            broke_off = reason.value == _UNSPECIFIED
            self._lost = "it broke off" if broke_off else f"{reason}{hint}"

    def _subscribed(
        self, _client: Any, _userdata: Any, _mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            log.warning(
                "broker %s: lets nothing through to this device (%s), so no command will come; "
                "give its account the right to read its cmd topics",
                self._address,
                refused[0],
            )

    def _received(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        if self._on_message is not None:
            self._on_message(message.topic, bytes(message.payload), message.retain)

    def _published(
        self, _client: Any, _userdata: Any, mid: int, reason: ReasonCode, _properties: Any
    ) -> None:
        self._on_acknowledged(mid, str(reason) if reason.is_failure else None)


def _witness(faults: list[ssl.SSLError]) -> type[ssl.SSLSocket]:
    """Sockets that write down what TLS has against them; paho says only that they were closed.

    Under TLS 1.3 a broker judges our certificate after we think that we are connected, so the
    first word that we send may be the one that fails.
    """

    class Witness(ssl.SSLSocket):
        def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
            try:
                return super().recv(buflen, flags)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                faults.append(error)
                raise

        def send(self, data: Any, flags: int = 0) -> int:
            try:
                return super().send(data, flags)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except OSError:
                with contextlib.suppress(OSError):
                    self.recv(1)
                raise

    return Witness


_EXPIRED, _NOT_YET_VALID = 10, 9  # X509_V_ERR_ of OpenSSL, as below
_OTHER_NAME = (62, 64)


def network_trouble(error: OSError | UnicodeError) -> str:
    """An operating system's error in words that say what to do."""
    if isinstance(error, socket.gaierror | UnicodeError):
        return "no such host; check its name and the network"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there; check host and port and that the broker runs"
    if isinstance(error, TimeoutError):
        return "no answer; check host, port and firewall"
    if isinstance(error, ssl.SSLCertVerificationError):
        return _distrust(error)
    if isinstance(error, ssl.SSLError):
        return _tls_trouble(error)
    if isinstance(error, paho.WebsocketConnectionError):
        return "something is there but opens no websocket; check port and path"
    if isinstance(error, ConnectionResetError):
        return "hangs up at once; check port, and whether it wants TLS"
    return f"cannot be reached ({error.strerror or error}); check host, port and network"


def _distrust(error: ssl.SSLCertVerificationError) -> str:
    """Why the broker's certificate is not believed."""
    if error.verify_code == _EXPIRED:
        return "its certificate has expired; renew it there, and check the clock of this device"
    if error.verify_code == _NOT_YET_VALID:
        return "its certificate is not valid yet; check the clock of this device"
    if error.verify_code in _OTHER_NAME:
        return "its certificate is for another name; use the host that it names"
    return (
        "its certificate comes from an authority that is not trusted here "
        f"({error.verify_message}); give the authority's certificate as broker_ca"
    )


def _tls_trouble(error: ssl.SSLError) -> str:
    """What else went wrong under TLS: the broker's alerts, or no TLS at all."""
    reason = (error.reason or str(error)).lower().replace("_", " ")
    if "certificate expired" in reason:
        return "says that this device's certificate has expired; make a new one"
    if "certificate required" in reason or "handshake failure" in reason:
        return "asks for a certificate of this device; give broker_certificate and broker_key"
    if "unknown ca" in reason or "bad certificate" in reason or "decrypt error" in reason:
        return "does not accept this device's certificate; have it signed by the broker's authority"
    if "wrong version number" in reason or "record layer failure" in reason:
        return "speaks no TLS on this port; check the port, or write mqtt:// or ws://"
    return f"TLS fails ({reason}); check port and certificates"
