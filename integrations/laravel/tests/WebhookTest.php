<?php

namespace Campanile\Laravel\Tests;

use Campanile\Laravel\Events\ClientEvent;
use Campanile\Laravel\Tests\Support\Project;
use Campanile\Laravel\Tests\Support\ProjectTestCase;
use Campanile\Laravel\Tests\Support\Webhook;
use Campanile\Laravel\Webhooks\WebhookVerifier;

/**
 * Requests to the route of webhooks.
 */
final class WebhookTest extends ProjectTestCase
{
    private const OCCUPIED = ['name' => 'channel_occupied', 'channel' => 'news'];

    public function test_each_kind_of_event_has_a_class(): void
    {
        $user = ['channel' => 'presence-room', 'user_id' => '10'];
        $this->assertSame(204, $this->send([
            self::OCCUPIED,
            ['name' => 'channel_vacated', 'channel' => 'news'],
            ['name' => 'member_added'] + $user,
            ['name' => 'member_removed'] + $user,
            ['name' => 'client_event', 'channel' => 'presence-room', 'event' => 'client-typing', 'data' => '{"a":1}', 'socket_id' => '1.2', 'user_id' => '10'],
            ['name' => 'client_event', 'channel' => 'private-room', 'event' => 'client-typing', 'data' => 'x', 'socket_id' => '1.2'],
            ['name' => 'cache_miss', 'channel' => 'cache-news'],
            ['name' => 'subscription_count', 'channel' => 'news', 'subscription_count' => 3],
            ['name' => 'user_online', 'channel' => '#server-to-user-10', 'user_id' => '10'],
            ['name' => 'user_offline', 'channel' => '#server-to-user-10', 'user_id' => '10'],
        ], timeMs: $time = (int) (microtime(true) * 1000))[0]);

        $common = fn (string $channel) => ['appId' => Project::ID, 'channel' => $channel, 'timeMs' => $time];
        $client = ['event' => 'client-typing', 'socketId' => '1.2'];
        $this->assertEquals([
            ['class' => 'ChannelOccupied'] + $common('news'),
            ['class' => 'ChannelVacated'] + $common('news'),
            ['class' => 'MemberAdded', 'userId' => '10'] + $common('presence-room'),
            ['class' => 'MemberRemoved', 'userId' => '10'] + $common('presence-room'),
            ['class' => 'ClientEvent', 'data' => '{"a":1}', 'userId' => '10'] + $client + $common('presence-room'),
            ['class' => 'ClientEvent', 'data' => 'x', 'userId' => null] + $client + $common('private-room'),
            ['class' => 'CacheMiss'] + $common('cache-news'),
            ['class' => 'SubscriptionCount', 'count' => 3] + $common('news'),
            ['class' => 'UserOnline', 'userId' => '10'] + $common('#server-to-user-10'),
            ['class' => 'UserOffline', 'userId' => '10'] + $common('#server-to-user-10'),
        ], $this->project->events());
    }

    public function test_data_of_a_client_event_is_decoded_on_demand(): void
    {
        $event = fn (string $data) => new ClientEvent('1', 'private-a', 0, 'client-a', $data, '1.2', null);

        $this->assertSame(['a' => 1], $event('{"a":1}')->decoded());
        $this->assertNull($event('{"a":')->decoded());
    }

    public function test_only_the_right_signature_is_accepted(): void
    {
        $body = Webhook::body([self::OCCUPIED]);
        $signature = hash_hmac('sha256', $body, Project::SECRET);
        foreach ([
            ['X-Pusher-Signature' => ''],
            ['X-Pusher-Signature' => strtoupper($signature)],
            ['X-Pusher-Signature' => hash_hmac('sha256', $body, 'another secret')],
            ['X-Pusher-Signature' => hash_hmac('sha256', $body, '')],
            ['X-Pusher-Key' => 'another-key'],
            ['X-Pusher-Key' => ''],
        ] as $headers) {
            $this->assertSame(401, Webhook::send($this->address(), $body, $headers)[0], json_encode($headers));
        }
        // The signature of other bytes.
        $this->assertSame(401, Webhook::send($this->address(), "{$body} ", ['X-Pusher-Signature' => $signature])[0]);
        $this->assertSame([], $this->project->events());
        $this->assertSame(204, Webhook::send($this->address(), $body)[0]);
    }

    public function test_further_apps_and_a_second_secret_of_an_app_are_accepted(): void
    {
        $this->project->configure(['apps' => [
            ['id' => '1', 'key' => 'first', 'secret' => 'old'],
            ['id' => '1', 'key' => 'first', 'secret' => 'new'],
            ['id' => '2', 'key' => 'second', 'secret' => 'old-of-second'],
            ['id' => '3', 'key' => 'third', 'secret' => null],
            ['id' => '4', 'key' => '', 'secret' => 'keyless'],
        ]]);
        $send = function (string $key, string $secret): int {
            $body = Webhook::body([['name' => 'cache_miss', 'channel' => "cache-{$key}"]]);

            return Webhook::send($this->address(), $body, ['X-Pusher-Key' => $key, 'X-Pusher-Signature' => hash_hmac('sha256', $body, $secret)])[0];
        };

        $this->assertSame([204, 204, 204], [$send('first', 'old'), $send('first', 'new'), $send('second', 'old-of-second')]);
        $this->assertSame([401, 401], [$send('first', 'old-of-second'), $send('third', '')]);
        $this->assertSame(['1', '1', '2'], array_column($this->project->events(), 'appId'));
    }

    public function test_a_numeric_key_is_not_compared_as_a_number(): void
    {
        $verifier = new WebhookVerifier([['id' => 1, 'key' => '1e1', 'secret' => 's']], 0);

        $this->assertNull($verifier->app('{}', '10', hash_hmac('sha256', '{}', 's')));
        $this->assertSame(['id' => '1', 'key' => '1e1'], $verifier->app('{}', '1e1', hash_hmac('sha256', '{}', 's')));
    }

    public function test_an_unknown_name_is_logged_and_ignored(): void
    {
        $this->assertSame(204, $this->send([['name' => 'channel_painted', 'channel' => 'news'], self::OCCUPIED, 'text', ['name' => 5]])[0]);

        $this->assertSame(['ChannelOccupied'], array_column($this->project->events(), 'class'));
        $log = $this->project->text('storage/logs/laravel.log');
        $this->assertStringContainsString('INFO: Webhook event ignored: unknown name. {"name":"channel_painted"}', $log);
        $this->assertStringContainsString('{"name":"int"}', $log);
    }

    public function test_an_event_with_a_wrong_field_is_logged_and_ignored(): void
    {
        $this->assertSame(204, $this->send([
            ['name' => 'channel_occupied'],
            ['name' => 'member_added', 'channel' => 'presence-room'],
            ['name' => 'member_added', 'channel' => 'presence-room', 'user_id' => 10],
            ['name' => 'subscription_count', 'channel' => 'news', 'subscription_count' => '3'],
            ['name' => 'client_event', 'channel' => 'news', 'event' => 'client-a', 'data' => []],
            self::OCCUPIED,
        ])[0]);

        $this->assertSame(['ChannelOccupied'], array_column($this->project->events(), 'class'));
        $this->assertSame(5, substr_count($this->project->text('storage/logs/laravel.log'), 'WARNING: Webhook event ignored'));
    }

    public function test_a_request_without_events_is_accepted(): void
    {
        $this->assertSame(204, $this->send([])[0]);
    }

    public function test_a_body_of_another_form_is_rejected(): void
    {
        foreach (['', '{', '[]', '5', '{"events":[]}', '{"time_ms":1,"events":5}', '{"time_ms":"1","events":[]}'] as $body) {
            $this->assertSame(400, Webhook::send($this->address(), $body)[0], $body);
        }
    }

    public function test_an_old_request_is_rejected(): void
    {
        $now = (int) (microtime(true) * 1000);
        $this->assertSame(204, $this->send([], $now - 590_000)[0]);
        $this->assertSame(401, $this->send([self::OCCUPIED], $now - 610_000)[0]);
        $this->assertSame(401, $this->send([self::OCCUPIED], $now + 620_000)[0]);
        $this->assertSame([], $this->project->events());
        $this->assertStringContainsString('WARNING: Webhook rejected', $this->project->text('storage/logs/laravel.log'));

        $this->project->configure(['webhooks' => ['max_age_s' => 0]]);
        $this->assertSame(204, $this->send([], 1)[0]);
    }

    public function test_a_large_body_is_rejected_with_and_without_its_length(): void
    {
        $this->project->configure(['webhooks' => ['max_body_bytes' => 1000]]);
        $body = Webhook::body([self::OCCUPIED]);
        $this->assertSame(204, Webhook::send($this->address(), str_pad($body, 1000))[0]);
        $this->assertSame(413, Webhook::send($this->address(), str_pad($body, 1001))[0]);
        $this->assertSame(204, Webhook::sendChunked($this->address(), str_pad($body, 1000)));
        $this->assertSame(413, Webhook::sendChunked($this->address(), str_pad($body, 1001)));
        $this->assertCount(2, $this->project->events());
    }

    public function test_a_listener_that_fails_makes_the_server_repeat_the_request(): void
    {
        $event = ['name' => 'client_event', 'channel' => 'private-a', 'event' => 'client-fails', 'data' => '', 'socket_id' => '1.2'];

        $this->assertSame(500, $this->send([$event])[0]);
    }

    public function test_the_path_can_be_changed_and_the_route_left_out(): void
    {
        $this->project->configure(['webhooks' => ['path' => '/hooks/{tenant}']]);
        $this->assertSame(204, $this->send([], path: '/hooks/1')[0]);
        $this->assertSame(404, $this->send([])[0]);

        $this->project->configure(['webhooks' => ['enabled' => false]]);
        $this->assertSame(404, $this->send([])[0]);
    }

    private ?string $served = null;

    private function address(string $path = '/campanile/webhook'): string
    {
        return ($this->served ??= $this->project->serve()).$path;
    }

    private function send(array $events, ?int $timeMs = null, string $path = '/campanile/webhook'): array
    {
        return Webhook::send($this->address($path), Webhook::body($events, $timeMs));
    }
}
