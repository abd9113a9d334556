<?php

namespace Campanile\Laravel\Events;

/**
 * A client has sent an event to other clients. Its name and data are chosen by that client: validate them.
 */
final class ClientEvent extends WebhookEvent
{
    /**
     * @param  string  $event  the name, which begins with client-
     * @param  string  $data  the data as text, usually JSON
     * @param  string|null  $userId  on presence channels
     */
    public function __construct(
        string $appId,
        string $channel,
        int $timeMs,
        public readonly string $event,
        public readonly string $data,
        public readonly string $socketId,
        public readonly ?string $userId,
    ) {
        parent::__construct($appId, $channel, $timeMs);
    }

    /** The data as JSON; null if it is not. */
    public function decoded(): mixed
    {
        return json_decode($this->data, true);
    }
}
