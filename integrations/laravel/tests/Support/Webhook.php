<?php

namespace Campanile\Laravel\Tests\Support;

/**
 * The body of a webhook, as the server writes it, and requests with it.
 */
final class Webhook
{
    public static function body(array $events, ?int $timeMs = null): string
    {
        return (string) json_encode(['time_ms' => $timeMs ?? (int) (microtime(true) * 1000), 'events' => $events]);
    }

    /**
     * Sends a body to the application.
     *
     * @param  array<string, string>  $headers  in place of the right ones
     * @return array{int, string} the status and the body of the answer
     */
    public static function send(string $address, string $body, array $headers = []): array
    {
        $headers += [
            'Content-Type' => 'application/json',
            'X-Pusher-Key' => Project::KEY,
            'X-Pusher-Signature' => hash_hmac('sha256', $body, Project::SECRET),
        ];
        $lines = array_map(fn ($name, $value) => "{$name}: {$value}", array_keys($headers), $headers);
        $context = ['http' => ['method' => 'POST', 'header' => $lines, 'content' => $body, 'ignore_errors' => true, 'timeout' => 20]];
        $answer = file_get_contents($address, false, stream_context_create($context));

        return [(int) explode(' ', $http_response_header[0])[1], (string) $answer];
    }

    /** Sends a signed body without its length in advance; returns the status of the answer. */
    public static function sendChunked(string $address, string $body): int
    {
        ['port' => $port, 'path' => $path] = parse_url($address);
        $socket = stream_socket_client("tcp://127.0.0.1:{$port}", timeout: 20);
        stream_set_timeout($socket, 20);
        $signature = hash_hmac('sha256', $body, Project::SECRET);
        fwrite($socket, "POST {$path} HTTP/1.1\r\nHost: 127.0.0.1:{$port}\r\nContent-Type: application/json\r\nConnection: close\r\n".
            'X-Pusher-Key: '.Project::KEY."\r\nX-Pusher-Signature: {$signature}\r\nTransfer-Encoding: chunked\r\n\r\n".
            dechex(strlen($body))."\r\n{$body}\r\n0\r\n\r\n");

        return (int) (explode(' ', (string) fgets($socket))[1] ?? 0);
    }
}
