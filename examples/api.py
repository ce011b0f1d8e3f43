#!/usr/bin/env python3
"""A lab by program: brings it up, pings in it, hears what happens to it, takes it down.

With nothing but the standard library, over the socket of `ovsns serve`:

    ovsns serve &
    python3 examples/api.py
"""

import json
import os
import socket

LAB = {
    "name": "by-program",
    "switches": {"s1": {}},
    "nodes": {"a": {}, "b": {}},
    "links": [{"endpoints": ["a", "s1"]}, {"endpoints": ["b", "s1"]}],
}


class Ovsns:
    """A connection to the server: JSON-RPC 2.0, a message a line."""

    def __init__(self, path=None):
        directory = os.environ.get("OVSNS_STATE_DIR") or "/run/ovsns"
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path or os.path.join(directory, "ovsns.sock"))
        self.lines = self.socket.makefile("r", encoding="utf-8")
        self.last = 0
        self.told = []

    def call(self, method, /, **params):
        """Has a call done and returns its answer; what it refuses is raised."""
        self.last += 1
        message = {"jsonrpc": "2.0", "id": self.last, "method": method, "params": params}
        self.socket.sendall(json.dumps(message).encode() + b"\n")
        while True:
            answer = self.hear()
            if answer.get("id") != self.last:
                # Subscriptions tell what they tell at any time.
                self.told.append(answer)
            elif "error" in answer:
                raise RuntimeError(answer["error"]["message"])
            else:
                return answer["result"]

    def hear(self):
        """The next message of the server."""
        line = self.lines.readline()
        if not line:
            raise ConnectionError("the server went away")
        return json.loads(line)

    def notifications(self, subscription):
        """What a subscription tells, one after the other."""
        while True:
            message = self.told.pop(0) if self.told else self.hear()
            if message.get("params", {}).get("subscription") == subscription:
                yield message["params"]["result"]

    def follow(self, method, /, **params):
        """The same, and prints what the call says meanwhile."""
        subscription = self.call("call.follow", method=method, params=params)
        for heard in self.notifications(subscription):
            if "answer" in heard:
                return heard["answer"]
            if "failure" in heard:
                raise RuntimeError(heard["failure"]["message"])
            if "told" in heard["news"]:
                print("   ", heard["news"]["told"])


def main():
    ovsns = Ovsns()
    print("server:", ovsns.call("server.info")["version"])
    made = ovsns.follow("lab.up", topology=LAB)
    print("up:", made["nodes"], "nodes,", made["links"], "links")
    try:
        status = ovsns.call("lab.status", lab="by-program")
        address = next(
            address.split("/")[0]
            for node in status["nodes"]
            if node["name"] == "b"
            for address in node["interfaces"][0]["addresses"]
            if "." in address
        )
        ping = ["ping", "-c", "1", "-W", "2", address]
        ran = ovsns.call("node.exec", node="by-program/a", command=ping, timeout=10)
        print("ping:", "answered" if ran["status"] == 0 else "not answered")
        events = ovsns.call("fabric.events", lab="by-program")
        ovsns.call("link.down", a="b", b="s1", lab="by-program")
        event = next(it for it in ovsns.notifications(events) if it["thing"] == "link")
        print("event:", event["kind"], event["text"])
        ran = ovsns.call("node.exec", node="by-program/a", command=ping, timeout=10)
        print("with the link down:", "answered" if ran["status"] == 0 else "not answered")
    finally:
        print("down:", ", ".join(ovsns.call("lab.down", lab="by-program")["labs"]))


if __name__ == "__main__":
    main()
