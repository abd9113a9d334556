<?php

namespace Campanile\Laravel\Pulse\Recorders;

use Campanile\Laravel\Pulse\Metrics;
use Campanile\Laravel\Pulse\ServerApi;
use Campanile\Laravel\Pulse\UnreadableServer;
use Illuminate\Support\Facades\Cache;
use Laravel\Pulse\Events\IsolatedBeat;
use Laravel\Pulse\Pulse;

/**
 * Records how many messages each node has sent and received, four times a minute.
 *
 * Nodes count from their start. The last reading is in the cache, because the next may be taken by another process.
 */
class CampanileMessages
{
    /** The type in Pulse of each counter. */
    public const TYPES = [
        'campanile_messages_sent_total' => 'campanile_messages:sent',
        'campanile_messages_received_total' => 'campanile_messages:received',
    ];

    /** Messages between two readings that are further apart are not recorded: they would appear as a peak. */
    private const LAST_READING_COUNTS_S = 120;

    /** @var class-string */
    public string $listen = IsolatedBeat::class;

    public function __construct(protected Pulse $pulse, protected ServerApi $servers) {}

    public function record(IsolatedBeat $event): void
    {
        if ($event->time->second % 15 !== 0) {
            return;
        }
        $failures = [];
        foreach ($this->servers->metricsAddresses() as $address) {
            try {
                $this->recordNode($address, $this->servers->metrics($address), $event->time->getTimestamp());
            } catch (UnreadableServer $failure) {
                $failures[] = $failure->getMessage();
            }
        }
        if ($failures !== []) {
            throw new UnreadableServer(implode(' ', $failures));
        }
    }

    private function recordNode(string $address, Metrics $metrics, int $timestamp): void
    {
        $reading = ['started' => $metrics->sum('process_start_time_seconds')];
        foreach (array_keys(self::TYPES) as $counter) {
            // Without pings, pongs and closes of the WebSocket.
            $reading[$counter] = $metrics->sum($counter, without: 'kind="control"');
        }
        $key = "campanile:pulse:{$address}";
        $last = Cache::get($key);
        Cache::put($key, $reading, self::LAST_READING_COUNTS_S);
        if ($last === null) {
            return;
        }
        $hasRestarted = $last['started'] !== $reading['started'];
        foreach (self::TYPES as $counter => $type) {
            $count = (int) ($reading[$counter] - ($hasRestarted ? 0 : $last[$counter]));
            if ($count > 0) {
                $this->pulse->record($type, $this->nodeOf($address), $count, $timestamp)->sum()->onlyBuckets();
            }
        }
    }

    private function nodeOf(string $address): string
    {
        $port = parse_url($address, PHP_URL_PORT);

        return parse_url($address, PHP_URL_HOST).($port ? ":{$port}" : '');
    }
}
