"""Pysher, the client for Python, against a real Campanile, with the options of docs/clients.md.

It calls back from a thread of its own, so the tests wait on queues.
"""

import json
import queue
import unittest

import pusher
import pysher

from server import APP, DEADLINE_S, Server


class PysherTest(unittest.TestCase):
    def setUp(self):
        self.server = self.enterContext(Server())
        self.sdk = pusher.Pusher(host="127.0.0.1", port=self.server.port, ssl=False,
                                 app_id=APP["id"], key=APP["key"], secret=APP["secret"])
        self.events = queue.Queue()

    def connect(self, channels, **options):
        """A client that is subscribed to `channels`, and puts their events, which are listed for each, into the queue.

        Pysher signs the subscriptions itself, with the secret. They are made by its own thread, as its documentation does: another
        thread might miss the answer.
        """
        client = pysher.Pusher(APP["key"], custom_host="127.0.0.1", port=self.server.port, secure=False,
                               secret=APP["secret"], **options)
        subscribed = queue.Queue()

        def subscribe(_):
            for name, events in channels.items():
                channel = client.subscribe(name)
                channel.bind("pusher_internal:subscription_succeeded", subscribed.put)
                for event in events:
                    channel.bind(event, lambda data, event: self.events.put((event, data)), event=event)

        client.connection.bind("pusher:connection_established", subscribe)
        client.connect()
        # Its thread may need seconds to end; it is not waited for.
        self.addCleanup(client.disconnect, 0)
        for _ in channels:
            subscribed.get(timeout=DEADLINE_S)
        return client

    def test_events_of_public_and_private_channels_arrive(self):
        self.connect({"news": ["flash"], "private-orders": ["flash"]})
        for name in ("news", "private-orders"):
            self.sdk.trigger(name, "flash", {"on": name})

            event, data = self.events.get(timeout=DEADLINE_S)
            self.assertEqual((event, json.loads(data)), ("flash", {"on": name}))

    def test_members_of_a_presence_channel_arrive_and_whisper(self):
        ann, bob = ({"user_id": name, "user_info": {"name": name.title()}} for name in ("ann", "bob"))
        self.connect({"presence-room": ["pusher_internal:member_added", "client-typing"]}, user_data=ann)
        client = self.connect({"presence-room": []}, user_data=bob)

        event, data = self.events.get(timeout=DEADLINE_S)
        self.assertEqual((event, json.loads(data)), ("pusher_internal:member_added", bob))

        client.channel("presence-room").trigger("client-typing", {"at": "Hello"})
        event, data = self.events.get(timeout=DEADLINE_S)
        self.assertEqual((event, json.loads(data)), ("client-typing", {"at": "Hello"}))


if __name__ == "__main__":
    unittest.main()
