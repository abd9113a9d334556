<?php

namespace Campanile\Laravel\Tests;

use Campanile\Laravel\Tests\Support\Client;
use Campanile\Laravel\Tests\Support\Project;
use Campanile\Laravel\Tests\Support\ProjectTestCase;

/**
 * reverb:start that is replaced by the server.
 */
final class StartCommandTest extends ProjectTestCase
{
    public function test_the_server_takes_the_place_of_the_artisan_process(): void
    {
        $process = $this->project->artisan(['reverb:start', '--port=0']);
        $client = new Client($process->awaitPort());
        $client->subscribe('news');

        $this->assertSame(realpath(Project::server()), readlink("/proc/{$process->pid}/exe"));
        $process->signal(SIGTERM);

        $this->assertSame(4100, $client->expectClose());
        $this->assertSame(0, $process->awaitEnd(), $process->output());
    }

    public function test_options_reach_the_server(): void
    {
        $process = $this->project->artisan(['reverb:start', '--host=127.0.0.1', '--port=0', '--path=/ws', '--hostname=example.com', '--debug']);
        $client = new Client($process->awaitPort(), '/ws');
        $client->subscribe('news');
        // Of the level debug.
        $client->send('pusher:subscribe', ['channel' => 'news']);
        $process->awaitOutput('/message rejected/');
    }

    public function test_a_file_of_the_configuration_reaches_the_server(): void
    {
        $this->project->configure(['config' => 'config/server.toml']);
        file_put_contents("{$this->project->path}/config/server.toml", "[server]\nport = 0\npath = \"/from-file\"\n");
        $process = $this->project->artisan(['reverb:start']);

        (new Client($process->awaitPort(), '/from-file'))->subscribe('news');
    }

    public function test_env_names_another_file_of_variables(): void
    {
        copy("{$this->project->path}/.env", "{$this->project->path}/.env.staging");
        file_put_contents("{$this->project->path}/.env.staging", "REVERB_SERVER_PATH=/staging\n", FILE_APPEND);
        $process = $this->project->artisan(['reverb:start', '--port=0', '--env=staging']);

        (new Client($process->awaitPort(), '/staging'))->subscribe('news');
    }

    public function test_a_reload_reads_a_changed_line_of_the_env_file(): void
    {
        // Laravel has this line in its environment, which the server must not inherit.
        $this->project->writeEnv(['REVERB_SERVER_PATH' => '/before']);
        $process = $this->project->artisan(['reverb:start', '--port=0']);
        $port = $process->awaitPort();
        $this->project->writeEnv(['REVERB_SERVER_PATH' => '/reloaded']);
        $process->signal(SIGHUP);
        $process->awaitOutput('/reloaded .*server\.path/');

        (new Client($port, '/reloaded'))->subscribe('news');
    }

    public function test_the_exit_code_is_that_of_the_server(): void
    {
        $process = $this->project->artisan(['reverb:start', '--port=99999']);

        $this->assertSame(2, $process->awaitEnd());
        $this->assertStringContainsString('port', $process->output());
    }

    public function test_a_configured_program_has_to_exist(): void
    {
        $this->project->writeEnv(['CAMPANILE_BINARY' => '/nonexistent/campanile']);
        $process = $this->project->artisan(['reverb:start']);

        $this->assertSame(2, $process->awaitEnd());
        $this->assertStringContainsString('CAMPANILE_BINARY) is /nonexistent/campanile', $process->output());
    }

    public function test_a_program_that_is_none_is_an_error(): void
    {
        file_put_contents("{$this->project->path}/none", "\0");
        chmod("{$this->project->path}/none", 0755);
        $this->project->writeEnv(['CAMPANILE_BINARY' => 'none']);
        $process = $this->project->artisan(['reverb:start']);

        $this->assertSame(2, $process->awaitEnd());
        $this->assertStringContainsString('cannot be run', $process->output());
        $this->assertSame([], glob("{$this->project->path}/storage/framework/campanile/*"));
    }

    public function test_the_program_is_searched_in_vendor_bin(): void
    {
        $this->project->writeEnv(['CAMPANILE_BINARY' => '']);
        mkdir("{$this->project->path}/vendor/bin");
        symlink(Project::server(), "{$this->project->path}/vendor/bin/campanile");
        $process = $this->project->artisan(['campanile:start', '--port=0']);

        (new Client($process->awaitPort()))->subscribe('news');
    }
}
