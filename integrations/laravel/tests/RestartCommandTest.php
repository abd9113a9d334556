<?php

namespace Campanile\Laravel\Tests;

use Campanile\Laravel\Server\ServerRecords;
use Campanile\Laravel\Tests\Support\Client;
use Campanile\Laravel\Tests\Support\ProjectTestCase;
use Campanile\Laravel\Tests\Support\RunningProcess;

final class RestartCommandTest extends ProjectTestCase
{
    public function test_servers_in_the_place_of_reverb_start_get_sigterm(): void
    {
        $first = $this->project->artisan(['reverb:start', '--port=0']);
        $second = $this->project->artisan(['campanile:start', '--port=0']);
        $clients = [new Client($first->awaitPort()), new Client($second->awaitPort())];
        $restart = $this->project->artisan(['reverb:restart']);

        $this->assertSame(0, $restart->awaitEnd(), $restart->output());
        foreach ([$first, $second] as $at => $server) {
            $this->assertSame(4100, $clients[$at]->expectClose());
            $this->assertSame(0, $server->awaitEnd(), $server->output());
            $this->assertStringContainsString("process id {$server->pid}", $restart->output());
        }
    }

    public function test_servers_that_are_children_see_it_in_the_cache(): void
    {
        $this->project->configure(['process' => 'child']);
        $server = $this->project->artisan(['reverb:start', '--port=0']);
        $client = new Client($server->awaitPort());
        $restart = $this->project->artisan(['campanile:restart']);

        $this->assertSame(0, $restart->awaitEnd(), $restart->output());
        $this->assertSame(4100, $client->expectClose());
        $this->assertSame(0, $server->awaitEnd(), $server->output());
    }

    public function test_a_server_that_starts_after_a_restart_is_not_restarted(): void
    {
        $this->project->configure(['process' => 'child']);
        $this->project->artisan(['reverb:restart'])->awaitEnd();
        $server = $this->project->artisan(['reverb:start', '--port=0']);
        $client = new Client($server->awaitPort());
        $this->awaitLooksIntoTheCache($server);

        $client->subscribe('news');
        $this->assertFalse($server->hasEnded());
        $this->assertStringNotContainsString('draining', $server->output());
    }

    public function test_without_a_server_it_succeeds(): void
    {
        $restart = $this->project->artisan(['reverb:restart']);

        $this->assertSame(0, $restart->awaitEnd());
        $this->assertStringContainsString('No other server', $restart->output());
    }

    public function test_a_record_of_another_process_with_the_same_id_is_deleted(): void
    {
        $folder = "{$this->project->path}/records";
        mkdir($folder);
        $records = new ServerRecords($folder);
        $records->add();
        $this->assertSame([getmypid()], $records->running());

        $file = $folder.'/'.getmypid().'.json';
        file_put_contents($file, json_encode(['started' => '1'] + json_decode((string) file_get_contents($file), true)));

        $this->assertSame([], $records->running());
        $this->assertFileDoesNotExist($file);
    }

    public function test_a_server_starts_without_a_record_of_it(): void
    {
        file_put_contents("{$this->project->path}/storage/framework/campanile", 'a file in the place of the folder');
        $server = $this->project->artisan(['reverb:start', '--port=0']);

        (new Client($server->awaitPort()))->subscribe('news');
        $this->assertStringContainsString('reverb:restart will not find this server', $server->output());
    }

    public function test_a_cache_that_does_not_answer_is_reported(): void
    {
        $this->breakTheCache();
        $restart = $this->project->artisan(['reverb:restart']);

        $this->assertSame(1, $restart->awaitEnd());
        $this->assertStringContainsString('The cache does not answer', $restart->output());
    }

    public function test_a_server_outlives_a_cache_that_does_not_answer(): void
    {
        $this->project->configure(['process' => 'child']);
        $this->breakTheCache();
        $server = $this->project->artisan(['reverb:start', '--port=0']);
        $client = new Client($server->awaitPort());
        $this->awaitLooksIntoTheCache($server);

        $client->subscribe('news');
        $this->assertFalse($server->hasEnded());
        $this->assertStringNotContainsString('draining', $server->output());
    }

    /**
     * A signal ends the wait for the next look into the cache, which follows the reload. The second reload comes after the first look.
     */
    private function awaitLooksIntoTheCache(RunningProcess $server): void
    {
        $server->signal(SIGHUP);
        $server->awaitOutput('/reloaded/');
        $server->signal(SIGHUP);
        $server->awaitOutput('/reloaded.*reloaded/s');
    }

    /** Makes the cache throw. */
    private function breakTheCache(): void
    {
        $cache = "<?php return ['default' => 'broken', 'prefix' => '', 'stores' => ['broken' => ['driver' => 'broken']]];";
        file_put_contents("{$this->project->path}/config/cache.php", $cache);
    }
}
