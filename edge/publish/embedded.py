"""A broker inside the program, for `--embedded-broker` and the demo: amqtt, MQTT 3.1.1.

It carries about a thousand messages a second, ten times what a fast pianist makes, and forgets
everything when it stops. For a piano that stays, run mosquitto.

amqtt 0.12 forgets what a client said last: messages that it has acknowledged and not yet passed
on are lost when that client hangs up, and a farewell that is followed at once by the end of the
connection counts as a broken one. `_Parting` mends both for every client.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Self

from edge.errors import BrokerError
from edge.publish.address import BrokerAddress

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 3.0

HANG_UP_S = 0.5
"""How long the clients' connections may take to end. amqtt 0.12 sometimes loses the cancelling
of a reader that is just then given a message, and would wait for that client for ever."""

SETTLE_S = 0.01
"""The event loop needs a few turns to let in a client, and to let one go."""

PASS_ON_S = 1.0
PASS_ON_POLL_S = 0.002
"""How long a client that leaves may wait for its last words to be passed on, looking so often."""

_CHATTY_LOGGERS = ("amqtt", "transitions", "websockets")


class EmbeddedBroker:
    """A broker on a thread of its own, for this machine alone unless told otherwise.

    Parameters
    ----------
    port : int
        0 takes a free one.
    host : str
        Where to listen; anonymous clients are let in, so keep to the loopback.
    """

    def __init__(self, port: int = 0, host: str = LOOPBACK) -> None:
        self._host = host
        self._port = port
        self._started = threading.Event()
        self._failure: str | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="embedded-broker", daemon=True)

    @property
    def address(self) -> BrokerAddress:
        """Where it listens, once started."""
        return BrokerAddress(self._host, self._port, speaks_mqtt5=False)

    def start(self) -> int:
        """Listen; returns the port.

        Raises
        ------
        BrokerError
            When amqtt is not installed, or the port is taken.
        """
        try:
            import amqtt.broker  # noqa: F401 - only to say early what is missing
        except ImportError:
            raise BrokerError(
                "the embedded broker needs the extra `demo`: pip install 'sostenuto[demo]', "
                "or use --broker mqtt://HOST:PORT"
            ) from None
        self._thread.start()
        if not self._started.wait(START_TIMEOUT_S):
            raise BrokerError(f"the embedded broker did not start in {START_TIMEOUT_S:.0f} s")
        if self._failure is not None:
            raise BrokerError(
                f"the embedded broker cannot listen on {self._host}:{self._port} "
                f"({self._failure}); choose another port, or 0 for a free one"
            )
        return self._port

    def stop(self) -> None:
        """Stop listening and hang up on everybody; may be called twice."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(STOP_TIMEOUT_S)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        finally:
            self._started.set()

    async def _serve(self) -> None:
        import amqtt.broker
        import amqtt.errors

        for name in _CHATTY_LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(_hush)
        self._stop = asyncio.Event()
        broker = amqtt.broker.Broker(self._settings())
        clients = _let_clients_part_in_peace(broker)
        try:
            await broker.start()
        except amqtt.errors.BrokerError as error:
            self._failure = str(error.__cause__ or error)
            return
        listener: asyncio.Server = broker._servers["default"].instance
        self._port = int(listener.sockets[0].getsockname()[1])
        self._started.set()
        await self._stop.wait()
        await asyncio.sleep(SETTLE_S)  # a client let in halfway would be left open for ever
        listener.close()
        await _hang_up_on(clients)
        # What does not end in time is cancelled with the event loop.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(broker.shutdown(), HANG_UP_S)
        await _hang_up_on(clients)

    def _settings(self) -> dict[str, Any]:
        return {
            "listeners": {"default": {"type": "tcp", "bind": f"{self._host}:{self._port}"}},
            "plugins": {
                "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}
            },
        }


class _Parting:
    """Lets a client go once everything that it said has been passed on.

    It stands in for the ``handle_disconnect`` of the client's handler, which is called with the
    client's farewell, or with None when the connection has ended.
    """

    def __init__(self, said: asyncio.Queue[Any], hang_up: Callable[[Any], Awaitable[None]]) -> None:
        self._said = said
        self._hang_up = hang_up
        self._farewell: Any = None

    def __call__(self, farewell: Any) -> Coroutine[Any, Any, None]:
        self._farewell = self._farewell or farewell  # at once: amqtt may cancel what follows
        return self._when_all_is_passed_on()

    async def _when_all_is_passed_on(self) -> None:
        patience = int(PASS_ON_S / PASS_ON_POLL_S)
        while patience > 0 and not self._said.empty():
            await asyncio.sleep(PASS_ON_POLL_S)
            patience -= 1
        await self._hang_up(self._farewell)


def _let_clients_part_in_peace(broker: Any) -> set[asyncio.StreamWriter]:
    """Mend how ``broker`` parts from clients; returns the writers of those that are there."""
    clients: set[asyncio.StreamWriter] = set()
    serve, greet = broker.stream_connected, broker._initialize_client_session

    async def stream_connected(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        clients.add(writer)
        try:
            await serve(reader, writer, listener_name=listener_name)
        finally:
            clients.discard(writer)
            writer.close()

    async def initialize_client_session(*about_client: Any) -> Any:
        handler, session = await greet(*about_client)
        handler.handle_disconnect = _Parting(
            session.delivered_message_queue, handler.handle_disconnect
        )
        return handler, session

    broker.stream_connected = stream_connected
    broker._initialize_client_session = initialize_client_session
    return clients


async def _hang_up_on(clients: set[asyncio.StreamWriter]) -> None:
    """End every connection, also those that were only just let in."""
    await asyncio.sleep(SETTLE_S)
    for client in clients:
        client.transport.abort()
    await asyncio.sleep(SETTLE_S)


def _hush(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A client that vanishes, or is cancelled at the end, is no news for the terminal."""
    log.debug("embedded broker: %s", context.get("message"))
