<?php

namespace Campanile\Laravel\Events;

/**
 * An event that the server reported by a webhook.
 */
abstract class WebhookEvent
{
    /**
     * @param  string  $appId  the id of the app; empty if config/campanile.php has none for its key
     * @param  string  $channel  the name of the channel
     * @param  int  $timeMs  when the server made the request, in milliseconds since 1970
     */
    public function __construct(
        public readonly string $appId,
        public readonly string $channel,
        public readonly int $timeMs,
    ) {}
}
