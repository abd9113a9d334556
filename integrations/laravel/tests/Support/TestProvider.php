<?php

namespace Campanile\Laravel\Tests\Support;

use Campanile\Laravel\Events\ClientEvent;
use Campanile\Laravel\Events\WebhookEvent;
use Illuminate\Cache\ArrayStore;
use Illuminate\Support\Facades\Cache;
use Illuminate\Support\Facades\Event;
use Illuminate\Support\ServiceProvider;
use RuntimeException;

/**
 * A provider of the tested project: a listener that writes each event into a file, and a cache that does not work.
 */
final class TestProvider extends ServiceProvider
{
    public const FILE = '/logs/events.jsonl';

    public function boot(): void
    {
        Event::listen('Campanile\\Laravel\\Events\\*', fn (string $name, array $payload) => $this->write($payload[0]));
        Cache::extend('broken', fn () => Cache::repository(new class extends ArrayStore
        {
            public function get($key)
            {
                throw new RuntimeException('a broken cache');
            }

            public function forever($key, $value)
            {
                throw new RuntimeException('a broken cache');
            }
        }));
    }

    private function write(WebhookEvent $event): void
    {
        if ($event instanceof ClientEvent && $event->event === 'client-fails') {
            throw new RuntimeException('a listener that fails');
        }
        $line = json_encode(['class' => class_basename($event)] + get_object_vars($event), JSON_THROW_ON_ERROR);
        file_put_contents(storage_path(self::FILE), $line."\n", FILE_APPEND | LOCK_EX);
    }
}
