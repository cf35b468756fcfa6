"""`sostenuto broker`: a production broker, set up by one command."""

from __future__ import annotations

from pathlib import Path

from edge.broker_setup import (
    DASHBOARD,
    HOME_ASSISTANT,
    BrokerPlan,
    Ports,
    own_names,
    set_up,
)
from edge.cli import console
from edge.errors import UsageError
from edge.publish.address import default_device_name

ACTIONS = ("setup",)


def run(
    action: str,
    folder: Path,
    *,
    devices: list[str],
    hosts: list[str],
    house: bool,
    ports: Ports,
    json: bool,
) -> None:
    """Write a broker's configuration, and say what to do with it."""
    if action not in ACTIONS:
        raise UsageError(f"broker {action!r}: allowed is {', '.join(ACTIONS)}")
    names = tuple(devices) if devices or house else (default_device_name(),)
    plan = set_up(BrokerPlan(folder, names, tuple(hosts) or own_names(), house, ports))
    if json:
        console.out_json(document(plan))
        return
    where = folder.resolve()
    console.out(f"written: {where}/mosquitto.conf, for {', '.join(plan.devices) or 'no piano yet'}")
    console.out(f"start it: mosquitto -c {where}/mosquitto.conf")
    console.out(f"or as a service: ln -sf {where}/mosquitto.conf /etc/mosquitto/mosquitto.conf")
    for device in plan.devices:
        console.out(f"piano {device}: listen --settings {where}/accounts/{device}/sostenuto.toml")
    for account in (DASHBOARD, HOME_ASSISTANT):
        console.out(f"{account}: {plan.url(account)}, password in {where}/accounts/{account}/")
    console.out(f"{where}/tls/ca.key signs for the whole house: keep a copy where nobody finds it")


def document(plan: BrokerPlan) -> dict[str, object]:
    """What was written, for programs; without passwords."""
    where = plan.folder.resolve()
    accounts = (*plan.devices, DASHBOARD, HOME_ASSISTANT)
    return {
        "configuration": f"{where}/mosquitto.conf",
        "authority": f"{where}/tls/ca.crt",
        "hosts": list(plan.hosts),
        "accounts": [
            {
                "name": account,
                "url": plan.url(account),
                "password_file": f"{where}/accounts/{account}/password",
            }
            for account in accounts
        ],
    }
