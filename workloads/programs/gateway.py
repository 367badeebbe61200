# SPDX-License-Identifier: Apache-2.0
"""A field gateway (MicroPython): takes sensors' messages, checks them, keeps a history, reports.

What all gateways of a site hold alike: the catalogue of devices and the firmware images they offer
their devices. What each holds for itself: messages, histories, reports. Runs for ever, one round a
second. From the environment: KSMHOST_SEED, KSMHOST_INDEX (which gateway this is),
KSMHOST_ROUNDS (end after so many).
"""

import array
import hashlib
import json
import os
import random
import time

DEVICES = 300
FIRMWARE_BYTES = 96 * 1024
FIRMWARES = 8
HISTORY = 256
LOG_MESSAGES = 400
MESSAGES_A_ROUND = 20
KINDS = ("temperature", "humidity", "pressure", "power", "vibration", "door", "level", "flow")


def number(name, default):
    """A whole number from the environment."""
    return int(os.getenv(name) or default)


def firmware(seed, kind):
    """An image as a device's vendor would ship it: bytes without any pattern."""
    image = bytearray(FIRMWARE_BYTES)
    for at in range(0, FIRMWARE_BYTES, 32):
        image[at : at + 32] = hashlib.sha256(b"%d %d %d" % (seed, kind, at)).digest()
    return bytes(image)


def device(serial):
    """A device's entry in the catalogue."""
    kind = KINDS[random.getrandbits(3)]
    return {
        "serial": f"GW-{serial:06d}",
        "kind": kind,
        "site": f"hall {random.getrandbits(3)}, row {random.getrandbits(5)}",
        "low": -random.getrandbits(6),
        "high": 100 + random.getrandbits(8),
        "unit": {"temperature": "C", "humidity": "%", "pressure": "hPa"}.get(kind, "1"),
        "calibration": [random.getrandbits(10) / 1024 for _ in range(4)],
    }


def load_catalogue(seed):
    """The catalogue's text and what it parses to, as if read from the site's server."""
    random.seed(seed)
    text = json.dumps([device(serial) for serial in range(DEVICES)])
    return text, json.loads(text)


class Gateway:
    """One gateway's own state."""

    def __init__(self, catalogue):
        self.catalogue = catalogue
        self.histories = [array.array("h", [0] * HISTORY) for _ in catalogue]
        self.log = []
        self.refused = 0
        self.round = 0

    def message(self):
        """What a sensor sends: JSON text, now and then out of range or broken."""
        serial = random.getrandbits(16) % len(self.catalogue)
        value = random.getrandbits(9) - 100
        text = json.dumps({"serial": serial, "value": value, "round": self.round})
        return text if random.getrandbits(6) else text[:-3]

    def take(self, text):
        """Checks one message against the catalogue and files its value."""
        try:
            message = json.loads(text)
            entry = self.catalogue[message["serial"]]
        except (ValueError, KeyError, IndexError):
            self.refused += 1
            return
        if entry["low"] <= message["value"] <= entry["high"]:
            self.histories[message["serial"]][self.round % HISTORY] = message["value"]
            self.log.append(text)
            del self.log[:-LOG_MESSAGES]
        else:
            self.refused += 1

    def report(self):
        """The summary the gateway would send upwards: mean and span by kind of device."""
        sums = {}
        for entry, history in zip(self.catalogue, self.histories):  # noqa: B905 (MicroPython has no strict)
            total, low, high = sums.get(entry["kind"], (0, 0, 0))
            sums[entry["kind"]] = (total + sum(history), min(low, *history), max(high, *history))
        return json.dumps({"round": self.round, "refused": self.refused, "kinds": sums})


def main():
    """Loads what is common, then works on what is not."""
    seed, index = number("KSMHOST_SEED", 1), number("KSMHOST_INDEX", 0)
    rounds = number("KSMHOST_ROUNDS", 0)
    text, catalogue = load_catalogue(seed)
    images = [firmware(seed, kind) for kind in range(FIRMWARES)]
    random.seed(seed * 1000 + index + 1)
    gateway = Gateway(catalogue)
    report = ""
    while not rounds or gateway.round < rounds:
        for _ in range(MESSAGES_A_ROUND):
            gateway.take(gateway.message())
        if gateway.round % 30 == 0:
            report = gateway.report()
        gateway.round += 1
        time.sleep(1)
    print(len(text), len(images), len(gateway.log), report)


main()
