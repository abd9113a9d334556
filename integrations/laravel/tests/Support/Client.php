<?php

namespace Campanile\Laravel\Tests\Support;

use PHPUnit\Framework\Assert;
use RuntimeException;

/**
 * A client of the Pusher protocol.
 */
final class Client
{
    private const DEADLINE_S = 20;

    public readonly string $socketId;

    /** @var resource */
    private $socket;

    public function __construct(int $port, string $path = '')
    {
        $socket = stream_socket_client("tcp://127.0.0.1:{$port}", $code, $message, self::DEADLINE_S);
        $this->socket = $socket ?: throw new RuntimeException($message);
        stream_set_timeout($this->socket, self::DEADLINE_S);
        $key = base64_encode(random_bytes(16));
        fwrite($this->socket, "GET {$path}/app/".Project::KEY."?protocol=7 HTTP/1.1\r\nHost: 127.0.0.1:{$port}\r\nUpgrade: websocket\r\n".
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {$key}\r\n\r\n");
        $status = (string) fgets($this->socket);
        while (trim($line = (string) fgets($this->socket)) !== '') {
            $status .= $line;
        }
        if (! str_starts_with($status, 'HTTP/1.1 101')) {
            throw new RuntimeException("no handshake: {$status}");
        }
        $this->socketId = json_decode($this->expect('pusher:connection_established')['data'], true)['socket_id'];
    }

    /** Subscribes, with a signature where the channel needs one. */
    public function subscribe(string $channel, ?string $userId = null): void
    {
        $data = ['channel' => $channel];
        $signed = "{$this->socketId}:{$channel}";
        if ($userId !== null) {
            $data['channel_data'] = json_encode(['user_id' => $userId]);
            $signed .= ":{$data['channel_data']}";
        }
        if (preg_match('/^(private|presence)-/', $channel)) {
            $data['auth'] = self::sign($signed);
        }
        $this->send('pusher:subscribe', $data);
        $this->expect('pusher_internal:subscription_succeeded');
    }

    public function signIn(string $userId): void
    {
        $user = json_encode(['id' => $userId]);
        $this->send('pusher:signin', ['user_data' => $user, 'auth' => self::sign("{$this->socketId}::user::{$user}")]);
        $this->expect('pusher:signin_success');
    }

    public function send(string $event, mixed $data, ?string $channel = null): void
    {
        $text = json_encode(['event' => $event, 'data' => $data] + ($channel === null ? [] : ['channel' => $channel]));
        // A text frame, masked by zeros.
        $length = strlen($text) < 126 ? pack('C', 0x80 | strlen($text)) : pack('Cn', 0x80 | 126, strlen($text));
        fwrite($this->socket, "\x81{$length}\0\0\0\0{$text}");
    }

    /** Waits for an event; skips others. */
    public function expect(string $event): array
    {
        while (true) {
            [$opcode, $payload] = $this->frame();
            $message = $opcode === 1 ? json_decode($payload, true) : [];
            if ($opcode === 8 || ($message['event'] ?? '') === 'pusher:error') {
                throw new RuntimeException("{$event} was expected: {$payload}");
            }
            if (($message['event'] ?? '') === $event) {
                Assert::assertSame($event, $message['event']);

                return $message;
            }
        }
    }

    /** Waits for the end of the connection; returns its close code. */
    public function expectClose(): int
    {
        do {
            [$opcode, $payload] = $this->frame();
        } while ($opcode !== 8);

        return unpack('n', $payload)[1];
    }

    public function close(): void
    {
        fclose($this->socket);
    }

    private static function sign(string $text): string
    {
        return Project::KEY.':'.hash_hmac('sha256', $text, Project::SECRET);
    }

    /** @return array{int, string} */
    private function frame(): array
    {
        ['first' => $first, 'length' => $length] = unpack('Cfirst/Clength', $this->read(2));
        if ($length === 126) {
            $length = unpack('n', $this->read(2))[1];
        }

        return [$first & 0x0F, $this->read($length)];
    }

    private function read(int $length): string
    {
        $bytes = $length === 0 ? '' : (string) stream_get_contents($this->socket, $length);
        if (strlen($bytes) < $length) {
            throw new RuntimeException('the connection has ended, or is silent');
        }

        return $bytes;
    }
}
