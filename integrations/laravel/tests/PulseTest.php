<?php

namespace Campanile\Laravel\Tests;

use Campanile\Laravel\Pulse\Metrics;
use Campanile\Laravel\Pulse\Recorders\CampanileConnections;
use Campanile\Laravel\Pulse\Recorders\CampanileMessages;
use Campanile\Laravel\Pulse\ServerApi;
use Campanile\Laravel\Pulse\UnreadableServer;
use Campanile\Laravel\Tests\Support\Client;
use Campanile\Laravel\Tests\Support\Project;
use Campanile\Laravel\Tests\Support\ProjectTestCase;
use Carbon\CarbonImmutable;
use Illuminate\Contracts\Console\Kernel;
use Illuminate\Contracts\Foundation\Application;
use Laravel\Pulse\Events\IsolatedBeat;
use Laravel\Pulse\Pulse;

/**
 * The recorders of Pulse, with real servers and a stand-in for Pulse.
 */
final class PulseTest extends ProjectTestCase
{
    private const TOKEN = 'token-of-the-metrics';

    private Application $app;

    private Pulse $pulse;

    public static function setUpBeforeClass(): void
    {
        foreach (['Entry', 'Pulse', 'Events/IsolatedBeat'] as $file) {
            require_once __DIR__."/Support/Pulse/{$file}.php";
        }
    }

    protected function setUp(): void
    {
        parent::setUp();
        $this->project->writeEnv(['CAMPANILE_METRICS__TOKEN' => self::TOKEN]);
        putenv('LARAVEL_TESTS='.__DIR__);
        $this->app = require "{$this->project->path}/bootstrap/app.php";
        $this->app->make(Kernel::class)->bootstrap();
        $this->pulse = new Pulse;
        $this->app->instance(Pulse::class, $this->pulse);
        $this->app['config']->set('campanile.apps', [['id' => Project::ID, 'key' => Project::KEY, 'secret' => Project::SECRET]]);
        $this->app['config']->set('campanile.pulse.metrics_token', self::TOKEN);
    }

    protected function tearDown(): void
    {
        restore_error_handler();
        restore_exception_handler();
        parent::tearDown();
    }

    public function test_connections_of_each_app_are_recorded(): void
    {
        [$port] = $this->startServer();
        $this->useServers(["http://127.0.0.1:{$port}"]);
        $clients = [new Client($port), new Client($port)];
        $this->beat(CampanileConnections::class, '2030-01-01 00:00:15');

        [$entry] = $this->pulse->entries;
        $this->assertSame(['campanile_connections', Project::ID, count($clients)], [$entry->type, $entry->key, $entry->value]);
        $this->assertSame(CarbonImmutable::parse('2030-01-01 00:00:15')->getTimestamp(), $entry->timestamp);
        $this->assertSame(['avg', 'max', 'onlyBuckets'], $entry->aggregations);
    }

    public function test_only_every_fifteenth_beat_is_recorded(): void
    {
        // Nothing is asked, so nothing fails.
        $this->useServers(['http://127.0.0.1:1']);
        $this->beat(CampanileConnections::class, '2030-01-01 00:00:14');
        $this->beat(CampanileMessages::class, '2030-01-01 00:00:16');

        $this->assertSame([], $this->pulse->entries);
    }

    public function test_connections_are_those_of_the_first_node_that_answers(): void
    {
        [$port] = $this->startServer(['--path=/ws']);
        $this->useServers(['http://127.0.0.1:1', "http://127.0.0.1:{$port}/ws/"]);
        $client = new Client($port, '/ws');
        $this->beat(CampanileConnections::class);
        $this->assertSame([1], array_column($this->pulse->entries, 'value'), $client->socketId);

        $this->useServers(['http://127.0.0.1:1']);
        $this->expectException(UnreadableServer::class);
        $this->expectExceptionMessage('http://127.0.0.1:1/apps/3001/connections does not answer.');
        $this->beat(CampanileConnections::class);
    }

    public function test_the_default_server_is_that_of_the_broadcasting_connection(): void
    {
        $connection = ['host' => 'ws.example.com', 'port' => 443, 'scheme' => 'https', 'path' => '/ws/'];
        $this->app['config']->set('broadcasting.connections.reverb.options', $connection);
        $this->assertSame(['https://ws.example.com:443/ws/metrics'], $this->app->make(ServerApi::class)->metricsAddresses());

        $this->app['config']->set('broadcasting.connections.reverb.options', ['host' => null]);
        $this->assertSame([], $this->app->make(ServerApi::class)->metricsAddresses());
    }

    public function test_messages_between_two_readings_are_recorded_for_each_node(): void
    {
        [$port] = $this->startServer();
        $this->useServers(["http://127.0.0.1:{$port}"]);
        $client = new Client($port);
        $this->beat(CampanileMessages::class);
        $this->assertSame([], $this->pulse->entries);

        // Three messages to the server, three answers.
        foreach (['a', 'b', 'c'] as $channel) {
            $client->subscribe($channel);
        }
        // By another process, which has the cache in common.
        $this->beat(CampanileMessages::class);

        $this->assertSame(
            [['campanile_messages:sent', "127.0.0.1:{$port}", 3], ['campanile_messages:received', "127.0.0.1:{$port}", 3]],
            array_map(fn ($entry) => [$entry->type, $entry->key, $entry->value], $this->pulse->entries),
        );
        $this->assertSame(['sum', 'onlyBuckets'], $this->pulse->entries[0]->aggregations);
    }

    public function test_a_restarted_server_counts_from_zero(): void
    {
        [$port, $process] = $this->startServer();
        $this->useServers(["http://127.0.0.1:{$port}"]);
        $client = new Client($port);
        foreach (range(1, 20) as $channel) {
            $client->subscribe("channel-{$channel}");
        }
        $this->beat(CampanileMessages::class);
        $process->signal(SIGTERM);
        $process->awaitEnd();
        [$port] = $this->startServer(["--port={$port}"]);
        $client = new Client($port);
        $client->subscribe('news');
        $this->beat(CampanileMessages::class);

        // The greeting and the answer; the subscription.
        $this->assertSame([2, 1], array_column($this->pulse->entries, 'value'));
    }

    public function test_a_node_that_does_not_answer_does_not_hide_the_others(): void
    {
        [$port] = $this->startServer();
        $this->useServers(['http://127.0.0.1:1', "http://127.0.0.1:{$port}"]);
        $client = null;
        foreach ([1, 2] as $beat) {
            try {
                $this->beat(CampanileMessages::class);
                $this->fail('the failure is not reported');
            } catch (UnreadableServer $failure) {
                $this->assertSame('http://127.0.0.1:1/metrics does not answer.', $failure->getMessage());
            }
            $client ??= new Client($port);
        }

        $this->assertSame([1], array_column($this->pulse->entries, 'value'), $client->socketId);
    }

    public function test_a_wrong_token_is_reported(): void
    {
        [$port] = $this->startServer();
        $this->useServers(["http://127.0.0.1:{$port}"]);
        $this->app['config']->set('campanile.pulse.metrics_token', 'another');

        $this->expectException(UnreadableServer::class);
        $this->expectExceptionMessage('answered with status 401.');
        $this->beat(CampanileMessages::class);
    }

    public function test_metrics_are_added_up_over_their_labels(): void
    {
        $metrics = new Metrics("# TYPE a counter\na{x=\"1 2\"} 3\na{x=\"}\"} 4.5\nab 9\nb 1e3\n");

        $this->assertSame([7.5, 1000.0, 0.0], [$metrics->sum('a'), $metrics->sum('b'), $metrics->sum('c')]);
        $this->assertSame([4.5, 1000.0], [$metrics->sum('a', 'x="1 2"'), $metrics->sum('b', 'x="1 2"')]);
    }

    private function startServer(array $options = []): array
    {
        $process = $this->project->artisan(['reverb:start', '--port=0', ...$options]);

        return [$process->awaitPort(), $process];
    }

    private function useServers(array $servers): void
    {
        $this->app['config']->set('campanile.pulse.servers', $servers);
    }

    /** Lets a new recorder record, as in another process. */
    private function beat(string $recorder, string $time = '2030-01-01 00:00:30'): void
    {
        $this->app->make($recorder)->record(new IsolatedBeat(CarbonImmutable::parse($time)));
    }
}
