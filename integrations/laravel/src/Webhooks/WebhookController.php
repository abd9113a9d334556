<?php

namespace Campanile\Laravel\Webhooks;

use Illuminate\Contracts\Config\Repository;
use Illuminate\Contracts\Events\Dispatcher;
use Illuminate\Http\Request;
use Illuminate\Http\Response;
use Psr\Log\LoggerInterface;

/**
 * Receives webhooks and dispatches an event for each of their entries.
 */
final class WebhookController
{
    /** A name in the log is cut to this. */
    private const LOGGED_BYTES = 100;

    public function __construct(
        private readonly WebhookVerifier $verifier,
        private readonly Dispatcher $events,
        private readonly LoggerInterface $log,
        private readonly Repository $config,
    ) {}

    public function __invoke(Request $request): Response
    {
        $body = $this->body($request, (int) $this->config->get('campanile.webhooks.max_body_bytes'));
        if ($body === null) {
            return $this->answer(413, 'The body is larger than campanile.webhooks.max_body_bytes.');
        }
        $key = (string) $request->headers->get('X-Pusher-Key');
        $app = $this->verifier->app($body, $key, (string) $request->headers->get('X-Pusher-Signature'));
        if ($app === null) {
            return $this->answer(401, 'The signature is not that of an app in config/campanile.php.');
        }
        $webhook = json_decode($body, true);
        if (! is_int($webhook['time_ms'] ?? null) || ! is_array($webhook['events'] ?? null)) {
            return $this->answer(400, 'The body must be JSON with time_ms and events.');
        }
        if (! $this->verifier->isRecent($webhook['time_ms'])) {
            $this->log->warning('Webhook rejected: it is too old, or a clock is wrong.', ['time_ms' => $webhook['time_ms']]);

            return $this->answer(401, 'The request is older than campanile.webhooks.max_age_s.');
        }
        $this->dispatch($webhook['events'], new EventFactory($app['id'], $webhook['time_ms']));

        return $this->answer(204, '');
    }

    private function dispatch(array $entries, EventFactory $factory): void
    {
        foreach ($entries as $entry) {
            $name = is_array($entry) ? $entry['name'] ?? null : null;
            if (! EventFactory::knows($name)) {
                $this->log->info('Webhook event ignored: unknown name.', ['name' => $this->shortened($name)]);
            } elseif ($event = $factory->make($entry)) {
                $this->events->dispatch($event);
            } else {
                $this->log->warning('Webhook event ignored: a field is missing or of another type.', ['name' => $name]);
            }
        }
    }

    /** The body; null if it is larger than allowed. Not more than that is read. */
    private function body(Request $request, int $maxBytes): ?string
    {
        if ((int) $request->headers->get('Content-Length') > $maxBytes) {
            return null;
        }
        $body = (string) stream_get_contents($request->getContent(true), $maxBytes + 1);

        return strlen($body) > $maxBytes ? null : $body;
    }

    private function shortened(mixed $name): string
    {
        return substr(is_string($name) ? $name : get_debug_type($name), 0, self::LOGGED_BYTES);
    }

    private function answer(int $status, string $text): Response
    {
        return new Response($text, $status, ['Content-Type' => 'text/plain']);
    }
}
