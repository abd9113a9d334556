<?php

namespace Campanile\Laravel\Events;

/**
 * An event of a user.
 */
abstract class UserEvent extends WebhookEvent
{
    public function __construct(string $appId, string $channel, int $timeMs, public readonly string $userId)
    {
        parent::__construct($appId, $channel, $timeMs);
    }
}
