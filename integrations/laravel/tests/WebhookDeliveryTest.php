<?php

namespace Campanile\Laravel\Tests;

use Campanile\Laravel\Tests\Support\Client;
use Campanile\Laravel\Tests\Support\Project;
use Campanile\Laravel\Tests\Support\ProjectTestCase;
use Campanile\Laravel\Tests\Support\RunningProcess;

/**
 * Webhooks of the real server.
 */
final class WebhookDeliveryTest extends ProjectTestCase
{
    /** The events that docs/webhooks.md describes. */
    private const ALL = 'channel_occupied,channel_vacated,member_added,member_removed,client_event,cache_miss,subscription_count,user_online,user_offline';

    protected function setUp(): void
    {
        parent::setUp();
        $this->project->writeEnv([
            'CAMPANILE_APPS__0__WEBHOOKS__0__URL' => $this->project->serve().'/campanile/webhook',
            'CAMPANILE_APPS__0__WEBHOOKS__0__EVENTS' => self::ALL,
            'CAMPANILE_APPS__0__SUBSCRIPTION_COUNT' => 'true',
        ]);
    }

    public function test_samples_of_all_events_are_dispatched(): void
    {
        $test = $this->project->start([Project::server(), 'webhooks', 'test']);

        $this->assertSame(0, $test->awaitEnd(), $test->output());
        $classes = array_column($this->project->events(), 'class');
        sort($classes);
        $this->assertSame([
            'CacheMiss', 'ChannelOccupied', 'ChannelVacated', 'ClientEvent', 'MemberAdded', 'MemberRemoved', 'SubscriptionCount', 'UserOffline', 'UserOnline',
        ], $classes);
    }

    public function test_what_clients_do_is_dispatched(): void
    {
        $process = $this->project->artisan(['reverb:start', '--port=0']);
        $port = $process->awaitPort();
        $ann = new Client($port);
        $ann->signIn('ann');
        $ann->subscribe('presence-room', 'ann');
        $bob = new Client($port);
        $bob->subscribe('presence-room', 'bob');
        $ann->send('client-typing', ['text' => 'Grüße'], 'presence-room');
        $bob->expect('client-typing');
        $bob->subscribe('cache-news');
        $ann->close();
        $bob->close();
        $this->awaitEvent('ChannelVacated', 'presence-room');
        $this->awaitEvent('ChannelVacated', 'cache-news');
        $this->awaitEvent('UserOffline', '#server-to-user-ann');

        $this->assertSame(['ann', 'bob'], array_column($this->eventsOf('MemberAdded'), 'userId'));
        $left = array_column($this->eventsOf('MemberRemoved'), 'userId');
        sort($left);
        $this->assertSame(['ann', 'bob'], $left);
        $this->assertSame(['presence-room', 'cache-news'], array_column($this->eventsOf('ChannelOccupied'), 'channel'));
        $this->assertSame(['cache-news'], array_column($this->eventsOf('CacheMiss'), 'channel'));
        $this->assertSame(['ann'], array_column($this->eventsOf('UserOnline'), 'userId'));
        $this->assertContains(['cache-news', 1], array_map(fn ($event) => [$event['channel'], $event['count']], $this->eventsOf('SubscriptionCount')));
        [$typing] = $this->eventsOf('ClientEvent');
        $this->assertSame(['client-typing', $ann->socketId, 'ann'], [$typing['event'], $typing['socketId'], $typing['userId']]);
        $this->assertSame(['text' => 'Grüße'], json_decode($typing['data'], true));
    }

    private function eventsOf(string $class): array
    {
        return array_values(array_filter($this->project->events(), fn (array $event) => $event['class'] === $class));
    }

    private function awaitEvent(string $class, string $channel): void
    {
        RunningProcess::await(
            fn () => in_array($channel, array_column($this->eventsOf($class), 'channel'), true),
            fn () => "no {$class} of {$channel} in ".json_encode($this->project->events())."\n".$this->project->text('storage/logs/laravel.log'),
        );
    }
}
