"""The server SDK from PyPI against a real Campanile.

    python3 -m venv .venv && .venv/bin/pip install -r requirements.txt
    .venv/bin/python -m unittest -v

The SDK signs every GET with the `body_md5` of an empty body, which no other SDK does.
"""

import json
import unittest

import pusher
from pusher.errors import PusherBadAuth, PusherBadRequest, PusherBadStatus

from server import APP, Server
from subscriber import Subscriber


def open_sdk(port, **changes):
    credentials = {"app_id": APP["id"], "key": APP["key"], "secret": APP["secret"]} | changes
    return pusher.Pusher(host="127.0.0.1", port=port, ssl=False, **credentials)


class SdkTest(unittest.TestCase):
    def setUp(self):
        self.server = self.enterContext(Server())
        self.sdk = open_sdk(self.server.port)

    def subscriber(self, *channels, user=None):
        """A connection that is subscribed to `channels`; `user` is its member of presence channels."""
        listener = self.enterContext(Subscriber(self.server.port, self.sdk))
        for channel in channels:
            member = {"user_id": user, "user_info": {"name": user.title()}} if channel.startswith("presence-") else None
            listener.subscribe(channel, member)
        return listener

    def run(self, result=None):
        """Prints the server's log if the test fails."""
        before = len(result.failures) + len(result.errors)
        super().run(result)
        if len(result.failures) + len(result.errors) > before and hasattr(self, "server"):
            print("".join(self.server.log))


class Publishing(SdkTest):
    def test_an_event_reaches_a_subscriber(self):
        listener = self.subscriber("news")

        self.assertEqual(self.sdk.trigger("news", "flash", {"title": "Grüße 🔔"}), {})

        name, channel, data = listener.event()
        self.assertEqual((name, channel, json.loads(data)), ("flash", "news", {"title": "Grüße 🔔"}))

    def test_text_is_delivered_to_the_letter(self):
        listener = self.subscriber("news")

        self.sdk.trigger("news", "flash", '{"a":  1, "b":"\\u00e9"}')

        self.assertEqual(listener.event()[2], '{"a":  1, "b":"\\u00e9"}')

    def test_one_event_reaches_many_channels(self):
        listener = self.subscriber("news", "private-orders", "presence-room", user="ann")

        self.sdk.trigger(["news", "private-orders", "presence-room"], "flash", "all")

        channels = {listener.event()[1] for _ in range(3)}
        self.assertEqual(channels, {"news", "private-orders", "presence-room"})

    def test_the_connection_named_with_an_event_is_left_out(self):
        author, reader = self.subscriber("news"), self.subscriber("news")

        self.sdk.trigger("news", "flash", "for others", author.socket_id)
        self.sdk.trigger("news", "flash", "for all")

        self.assertEqual(author.event()[2], "for all")
        self.assertEqual([reader.event()[2], reader.event()[2]], ["for others", "for all"])

    def test_a_batch_is_delivered_in_its_order(self):
        listener = self.subscriber("news", "private-orders")
        batch = [{"channel": channel, "name": "flash", "data": str(n)}
                 for n, channel in enumerate(["news", "private-orders", "news", "news"])]

        self.assertEqual(self.sdk.trigger_batch(batch), {})

        heard = [listener.event() for _ in batch]
        self.assertEqual([data for _, channel, data in heard if channel == "news"], ["0", "2", "3"])
        self.assertEqual([data for _, channel, data in heard if channel == "private-orders"], ["1"])

    def test_a_batch_of_more_than_ten_is_rejected(self):
        batch = [{"channel": "news", "name": "flash", "data": "x"} for _ in range(11)]

        self.assertRaises(PusherBadRequest, self.sdk.trigger_batch, batch)


class Asking(SdkTest):
    def test_without_subscribers_no_channel_is_listed(self):
        self.assertEqual(self.sdk.channels_info(), {"channels": {}})

    def test_channels_are_listed(self):
        self.subscriber("news", "presence-room", user="ann")

        self.assertEqual(set(self.sdk.channels_info()["channels"]), {"news", "presence-room"})

    def test_channels_are_listed_by_prefix_and_with_attributes(self):
        self.subscriber("news", "presence-room", user="ann")
        self.subscriber("presence-room", user="bob")

        listed = self.sdk.channels_info("presence-", ["user_count"])

        self.assertEqual(listed, {"channels": {"presence-room": {"user_count": 2}}})

    def test_a_user_count_without_a_prefix_is_that_of_presence_channels(self):
        self.subscriber("news", "presence-room", user="ann")

        listed = self.sdk.channels_info(None, ["user_count"])

        self.assertEqual(listed, {"channels": {"news": {}, "presence-room": {"user_count": 1}}})

    def test_a_channel_says_what_is_asked_of_it(self):
        self.subscriber("news", "presence-room", user="ann")

        room = self.sdk.channel_info("presence-room", ["user_count"])
        news = self.sdk.channel_info("news", ["subscription_count"])

        self.assertEqual(room, {"occupied": True, "user_count": 1})
        self.assertEqual(news, {"occupied": True, "subscription_count": 1})
        self.assertEqual(self.sdk.channel_info("empty"), {"occupied": False})

    def test_a_cache_channel_shows_its_last_event(self):
        self.sdk.trigger("cache-weather", "report", "blue")

        answer = self.sdk.channel_info("cache-weather", ["cache"])

        self.assertEqual((answer["occupied"], answer["cache"]["data"]), (False, "blue"))

    def test_users_are_listed_once_each(self):
        self.subscriber("presence-room", user="ann")
        self.subscriber("presence-room", user="ann")
        self.subscriber("presence-room", user="bob")

        users = self.sdk.users_info("presence-room")["users"]

        self.assertEqual(sorted(user["id"] for user in users), ["ann", "bob"])
        self.assertEqual(self.sdk.users_info("presence-empty"), {"users": []})

    def test_users_of_another_kind_of_channel_are_rejected(self):
        self.assertRaises(PusherBadRequest, self.sdk.users_info, "news")


class Credentials(SdkTest):
    def test_a_signature_of_the_sdk_lets_into_a_presence_channel(self):
        with Subscriber(self.server.port, self.sdk) as listener:
            answer = listener.subscribe("presence-room", {"user_id": "ann", "user_info": {"name": "Ann"}})

        self.assertEqual(answer, {"presence": {"count": 1, "ids": ["ann"], "hash": {"ann": {"name": "Ann"}}}})

    def test_a_wrong_secret_is_rejected_when_asking_and_when_publishing(self):
        guess = open_sdk(self.server.port, secret="guess")

        self.assertRaises(PusherBadAuth, guess.channels_info)
        self.assertRaises(PusherBadAuth, guess.trigger, "news", "flash", "x")

    def test_an_unknown_key_is_rejected(self):
        with self.assertRaisesRegex(PusherBadRequest, "Unknown auth_key"):
            open_sdk(self.server.port, key="nobodys-key").channels_info()

    def test_an_unknown_app_is_rejected(self):
        with self.assertRaisesRegex(PusherBadStatus, "404"):
            open_sdk(self.server.port, app_id="404").channels_info()


if __name__ == "__main__":
    unittest.main()
