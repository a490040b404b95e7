"""Bare paho, for comparison: python bare_paho.py PORT WINDOW FILE

FILE has a JSON array [topic, payload] a line. All are published at QoS 1 with at most WINDOW unconfirmed; then
{"seconds": from the first publish to the last confirmation} is printed.
"""

import json
import sys
import time
from pathlib import Path

from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion


def main() -> None:
    port, window, file = sys.argv[1:]
    messages = [json.loads(line) for line in Path(file).read_text().splitlines()]
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
    client.max_inflight_messages_set(int(window))
    client.connect("127.0.0.1", int(port))
    client.loop_start()
    began = time.perf_counter()
    for sent in [client.publish(topic, payload, qos=1) for topic, payload in messages]:
        sent.wait_for_publish(60)
    seconds = time.perf_counter() - began
    client.disconnect()
    client.loop_stop()
    sys.stdout.write(json.dumps({"seconds": seconds}) + "\n")


if __name__ == "__main__":
    main()
