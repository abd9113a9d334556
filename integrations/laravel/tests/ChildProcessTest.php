<?php

namespace Campanile\Laravel\Tests;

use Campanile\Laravel\Tests\Support\Client;
use Campanile\Laravel\Tests\Support\ProjectTestCase;
use Campanile\Laravel\Tests\Support\RunningProcess;

/**
 * reverb:start with the server as its child.
 */
final class ChildProcessTest extends ProjectTestCase
{
    private const WITHOUT_PCNTL = ['-d', 'disable_functions=pcntl_exec,pcntl_signal,pcntl_async_signals'];

    protected function setUp(): void
    {
        parent::setUp();
        $this->project->configure(['process' => 'child']);
    }

    public function test_sigterm_drains_the_server(): void
    {
        $process = $this->start();
        $client = new Client($process->awaitPort());
        $this->assertStringContainsString('php', (string) readlink("/proc/{$process->pid}/exe"));
        $process->signal(SIGTERM);

        $this->assertSame(4100, $client->expectClose());
        $this->assertSame(0, $process->awaitEnd(), $process->output());
        $this->assertStringContainsString('drained', $process->output());
    }

    public function test_sighup_reloads_the_server(): void
    {
        $this->project->writeEnv(['REVERB_SERVER_PATH' => '/before']);
        $process = $this->start();
        $port = $process->awaitPort();
        $this->project->writeEnv(['REVERB_SERVER_PATH' => '/reloaded']);
        $process->signal(SIGHUP);
        $process->awaitOutput('/reloaded .*server\.path/');

        (new Client($port, '/reloaded'))->subscribe('news');
    }

    public function test_a_second_sigterm_reaches_the_server_too(): void
    {
        // Only a request that lacks its body keeps the server waiting.
        $process = $this->start();
        $socket = stream_socket_client('tcp://127.0.0.1:'.$process->awaitPort());
        fwrite($socket, "POST /apps/3001/events HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n");
        fwrite($ready = stream_socket_client(stream_socket_get_name($socket, true)), "GET /up HTTP/1.0\r\nHost: x\r\n\r\n");
        fgets($ready);
        $process->signal(SIGTERM);
        $process->awaitOutput('/draining/');
        $process->signal(SIGTERM);

        $this->assertSame(1, $process->awaitEnd(), $process->output());
    }

    public function test_a_signal_to_the_process_group_reaches_the_server_once(): void
    {
        $process = $this->start(before: ['setsid']);
        $client = new Client($process->awaitPort());
        // Two signals in a row may arrive as one, so the outcome alone does not show it.
        $this->assertNotSame(posix_getpgid($process->pid), posix_getpgid($this->serverOf($process)));
        posix_kill(-$process->pid, SIGTERM);

        $this->assertSame(4100, $client->expectClose());
        $this->assertSame(0, $process->awaitEnd(), $process->output());
    }

    public function test_the_exit_code_is_that_of_the_server(): void
    {
        $process = $this->start(port: '99999');

        $this->assertSame(2, $process->awaitEnd());
    }

    public function test_a_killed_server_gives_the_number_of_the_signal(): void
    {
        $process = $this->start();
        $process->awaitPort();
        posix_kill($this->serverOf($process), SIGKILL);

        $this->assertSame(128 + SIGKILL, $process->awaitEnd());
    }

    public function test_the_server_ends_with_a_killed_artisan_process(): void
    {
        $process = $this->start();
        $client = new Client($process->awaitPort());
        $server = $this->serverOf($process);
        $process->signal(SIGKILL);

        $this->assertSame(4100, $client->expectClose());
        RunningProcess::await(fn () => $this->hasEnded($server), fn () => 'the server goes on');
    }

    public function test_without_pcntl_the_server_ends_with_the_artisan_process(): void
    {
        $this->project->configure(['process' => null]);
        $process = $this->start(self::WITHOUT_PCNTL);
        $client = new Client($process->awaitPort());
        $server = $this->serverOf($process);
        $process->signal(SIGTERM);

        $this->assertSame(4100, $client->expectClose());
        RunningProcess::await(fn () => $this->hasEnded($server), fn () => 'the server goes on');
    }

    public function test_exec_without_pcntl_is_an_error(): void
    {
        $this->project->configure(['process' => 'exec']);
        $process = $this->start(self::WITHOUT_PCNTL);

        $this->assertSame(2, $process->awaitEnd());
        $this->assertStringContainsString('needs the extension pcntl', $process->output());
    }

    public function test_another_word_is_an_error(): void
    {
        $this->project->configure(['process' => 'thread']);
        $process = $this->start();

        $this->assertSame(2, $process->awaitEnd());
        $this->assertStringContainsString('campanile.process must be', $process->output());
    }

    private function start(array $php = [], array $before = [], string $port = '0'): RunningProcess
    {
        return $this->project->artisan(['reverb:start', "--port={$port}"], $php, $before);
    }

    /** Whether the process is gone, or a zombie that its new parent does not wait for. */
    private function hasEnded(int $process): bool
    {
        $stat = (string) @file_get_contents("/proc/{$process}/stat");

        return $stat === '' || str_starts_with((string) strrchr($stat, ')'), ') Z');
    }

    /** The process id of the server: the child whose program is campanile. */
    private function serverOf(RunningProcess $process): int
    {
        $children = explode(' ', trim((string) file_get_contents("/proc/{$process->pid}/task/{$process->pid}/children")));
        foreach ($children as $child) {
            if (str_ends_with((string) readlink("/proc/{$child}/exe"), '/campanile')) {
                return (int) $child;
            }
        }
        $this->fail('no child is the server: '.implode(' ', $children));
    }
}
