"""How results leave the device: numbered messages, an outbox, and the broker."""

from __future__ import annotations

from edge.publish.address import BrokerAddress, default_device_name
from edge.publish.embedded import EmbeddedBroker
from edge.publish.publisher import Publisher, PublisherCounters, PublishReport

__all__ = [
    "BrokerAddress",
    "EmbeddedBroker",
    "PublishReport",
    "Publisher",
    "PublisherCounters",
    "default_device_name",
]
