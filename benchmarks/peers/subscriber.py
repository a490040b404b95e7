"""asyncua's own subscription, for comparison: python subscriber.py URL COUNT PERIOD_MS

Subscribes to nodes v0, v1, … of the second namespace; a line on stdin is answered by {"values": received so far}.
"""

import asyncio
import json
import logging
import sys
from typing import Any

from asyncua import Client, ua


class Handler:
    values = 0

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        self.values += 1


async def main() -> None:
    logging.disable(logging.CRITICAL)
    url, count, period = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    handler = Handler()
    async with Client(url) as client:
        subscription = await client.create_subscription(period, handler)
        nodes = [client.get_node(ua.NodeId(f"v{number}", 1)) for number in range(count)]
        for start in range(0, count, 500):
            await subscription.subscribe_data_change(nodes[start : start + 500], queuesize=100)
        _say({"ready": True})
        lines = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while await lines.readline():
            _say({"values": handler.values})


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
