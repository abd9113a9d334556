"""A minimal subscriber: the parts of WebSocket (RFC 6455) and of the Pusher protocol that receive events."""

import base64
import json
import os
import socket
import struct

from server import APP, DEADLINE_S

TEXT, CLOSE = 0x1, 0x8


class Subscriber:
    """A connection. `sdk` signs the subscriptions that need a signature."""

    def __init__(self, port, sdk):
        self._sdk = sdk
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        self._stream = self._socket.makefile("rb")
        self._upgrade(port)
        established = self._message()
        assert established["event"] == "pusher:connection_established", established
        self.socket_id = json.loads(established["data"])["socket_id"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stream.close()
        self._socket.close()

    def subscribe(self, channel, member=None):
        """Subscribes, and returns the data of the answer."""
        data = {"channel": channel}
        if channel.startswith(("private-", "presence-")):
            signed = self._sdk.authenticate(channel=channel, socket_id=self.socket_id, custom_data=member)
            data |= {key: signed[key] for key in ("auth", "channel_data") if key in signed}
        self._send({"event": "pusher:subscribe", "data": data})
        while (answer := self._message())["event"] != "pusher_internal:subscription_succeeded":
            assert answer["event"].startswith("pusher_internal:"), answer
        return json.loads(answer["data"])

    def event(self):
        """Waits for the next event of the application, with a deadline; returns its name, channel and data."""
        while (message := self._message())["event"].startswith("pusher"):
            assert message["event"] != "pusher:error", message
        return message["event"], message["channel"], message["data"]

    def _upgrade(self, port):
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET /app/{APP['key']}?protocol=7&client=py&version=1.0 HTTP/1.1\r\n"
            f"Host: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        status = self._stream.readline()
        assert b" 101 " in status, status
        while self._stream.readline() not in (b"\r\n", b""):
            pass

    def _send(self, message):
        payload = json.dumps(message).encode()
        mask = os.urandom(4)
        size = len(payload)
        length = struct.pack("!B", 0x80 | size) if size < 126 else struct.pack("!BH", 0x80 | 126, size)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self._socket.sendall(bytes([0x80 | TEXT]) + length + mask + masked)

    def _message(self):
        while True:
            opcode, payload = self._frame()
            assert opcode != CLOSE, payload
            if opcode == TEXT:
                return json.loads(payload)

    def _frame(self):
        head, size = struct.unpack("!BB", self._stream.read(2))
        if size == 126:
            (size,) = struct.unpack("!H", self._stream.read(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._stream.read(8))
        return head & 0x0F, self._stream.read(size)
