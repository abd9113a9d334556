<?php

namespace Campanile\Laravel\Events;

/**
 * The number of subscribers of a channel has changed.
 */
final class SubscriptionCount extends WebhookEvent
{
    public function __construct(string $appId, string $channel, int $timeMs, public readonly int $count)
    {
        parent::__construct($appId, $channel, $timeMs);
    }
}
