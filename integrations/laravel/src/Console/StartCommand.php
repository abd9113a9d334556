<?php

namespace Campanile\Laravel\Console;

use Campanile\Laravel\Server\BinaryFinder;
use Campanile\Laravel\Server\BinaryNotFound;
use Campanile\Laravel\Server\ChildProcess;
use Campanile\Laravel\Server\OriginalEnvironment;
use Campanile\Laravel\Server\ServerRecords;
use Illuminate\Console\Command;
use Illuminate\Support\Facades\Cache;
use RuntimeException;
use Symfony\Component\Console\Attribute\AsCommand;
use Throwable;

/**
 * Runs the server, in the place of this process or as its child.
 */
#[AsCommand(name: 'campanile:start')]
class StartCommand extends Command
{
    /** The exit code of wrong usage or configuration, as the server has it. */
    private const WRONG_CONFIGURATION = 2;

    protected const OPTIONS = '
        {--host= : The address to listen on}
        {--port= : The port to listen on}
        {--path= : The prefix of all routes}
        {--hostname= : Accepted for compatibility with Reverb; has no effect}
        {--debug : Log more}';

    protected $signature = 'campanile:start'.self::OPTIONS;

    protected $description = 'Start the broadcast server Campanile';

    public function handle(BinaryFinder $finder, ServerRecords $records): int
    {
        try {
            $binary = $finder->find();
        } catch (BinaryNotFound $error) {
            $this->error($error->getMessage());

            return self::WRONG_CONFIGURATION;
        }
        $process = $this->laravel['config']['campanile.process'] ?? (function_exists('pcntl_exec') ? 'exec' : 'child');
        if ($process === 'child') {
            return $this->runAsChild($binary);
        }
        if ($process === 'exec' && function_exists('pcntl_exec')) {
            return $this->replaceThisProcess($binary, $records);
        }
        $this->error($process === 'exec'
            ? 'campanile.process is exec, which needs the extension pcntl.'
            : 'campanile.process must be exec, child or null.');

        return self::WRONG_CONFIGURATION;
    }

    /**
     * The arguments of the server.
     *
     * @return list<string>
     */
    protected function serverArguments(): array
    {
        $arguments = ['start'];
        if ($config = $this->laravel['config']['campanile.config']) {
            array_push($arguments, '--config', $config);
        }
        if ($environment = $this->option('env')) {
            array_push($arguments, '--env', $environment);
        }
        foreach (['host', 'port', 'path', 'hostname'] as $option) {
            if (($value = (string) $this->option($option)) !== '') {
                array_push($arguments, "--{$option}", $value);
            }
        }

        return $this->option('debug') ? [...$arguments, '--debug'] : $arguments;
    }

    /** Returns only if that fails. */
    private function replaceThisProcess(string $binary, ServerRecords $records): int
    {
        try {
            $records->add();
        } catch (RuntimeException $error) {
            $this->warn($error->getMessage().' reverb:restart will not find this server.');
        }
        // The server looks for .env and config.toml here.
        chdir($this->laravel->basePath());
        @pcntl_exec($binary, $this->serverArguments(), OriginalEnvironment::variables());
        $records->remove();
        $this->error("{$binary} cannot be run: ".pcntl_strerror(pcntl_get_last_error()).'.');

        return self::WRONG_CONFIGURATION;
    }

    private function runAsChild(string $binary): int
    {
        $seen = $this->requestedRestart();
        $child = new ChildProcess(function () use (&$seen): bool {
            $before = $seen;

            return $before !== ($seen = $this->requestedRestart($before));
        });

        return $child->run([$binary, ...$this->serverArguments()], $this->laravel->basePath(), OriginalEnvironment::variables());
    }

    /** The time of the last reverb:restart in the cache. A cache that does not answer does not stop the server. */
    private function requestedRestart(mixed $otherwise = null): mixed
    {
        try {
            return Cache::get(RestartCommand::CACHE_KEY);
        } catch (Throwable) {
            return $otherwise;
        }
    }
}
