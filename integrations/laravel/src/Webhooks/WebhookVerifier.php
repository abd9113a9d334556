<?php

namespace Campanile\Laravel\Webhooks;

/**
 * Decides whether a request is a webhook of one of the configured apps.
 */
final class WebhookVerifier
{
    /**
     * @param  list<array{id?: ?string, key?: ?string, secret?: ?string}>  $apps  several may have the same key and another secret
     * @param  int  $maxAgeS  0 accepts requests of any age
     */
    public function __construct(private readonly array $apps, private readonly int $maxAgeS) {}

    /**
     * The app whose secret has signed the body; null if none has.
     *
     * @return array{id: string, key: string}|null
     */
    public function app(string $body, string $key, string $signature): ?array
    {
        $found = null;
        foreach ($this->apps as $app) {
            $secret = (string) ($app['secret'] ?? '');
            if ($secret === '' || (string) ($app['key'] ?? '') !== $key) {
                continue;
            }
            if (hash_equals(hash_hmac('sha256', $body, $secret), $signature)) {
                $found ??= ['id' => (string) ($app['id'] ?? ''), 'key' => $key];
            }
        }

        return $found;
    }

    /** Whether a request that was made at `timeMs` is accepted now. A clock may be ahead by as much as a request may be old. */
    public function isRecent(int $timeMs, ?float $now = null): bool
    {
        return $this->maxAgeS === 0 || abs(($now ?? microtime(true)) - $timeMs / 1000) <= $this->maxAgeS;
    }
}
