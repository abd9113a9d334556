<?php

namespace Campanile\Laravel\Pulse\Recorders;

use Campanile\Laravel\Pulse\ServerApi;
use Laravel\Pulse\Events\IsolatedBeat;
use Laravel\Pulse\Pulse;

/**
 * Records the number of connections of each app, four times a minute.
 */
class CampanileConnections
{
    public const TYPE = 'campanile_connections';

    /** @var class-string */
    public string $listen = IsolatedBeat::class;

    public function __construct(protected Pulse $pulse, protected ServerApi $servers) {}

    public function record(IsolatedBeat $event): void
    {
        if ($event->time->second % 15 !== 0) {
            return;
        }
        foreach ($this->servers->apps() as $id => $app) {
            $this->pulse->record(self::TYPE, (string) $id, $this->servers->connections($app), $event->time->getTimestamp())
                ->avg()->max()->onlyBuckets();
        }
    }
}
