<?php

namespace Campanile\Laravel\Console;

use Campanile\Laravel\Server\ServerRecords;
use Campanile\Laravel\Server\Signals;
use Illuminate\Console\Command;
use Illuminate\Support\Facades\Cache;
use Symfony\Component\Console\Attribute\AsCommand;
use Throwable;

/**
 * Asks running servers to drain and to end. A supervisor starts them again.
 */
#[AsCommand(name: 'campanile:restart')]
class RestartCommand extends Command
{
    /** Reverb's own key, so that whatever sets it for Reverb restarts this server as well. */
    public const CACHE_KEY = 'laravel:reverb:restart';

    protected $signature = 'campanile:restart';

    protected $description = 'Restart the broadcast server Campanile';

    public function handle(ServerRecords $records): int
    {
        $code = self::SUCCESS;
        try {
            Cache::forever(self::CACHE_KEY, time());
            $this->info('Servers that run as a child process and share this cache restart within 5 seconds.');
        } catch (Throwable $error) {
            $this->error('The cache does not answer, so servers that run as a child process do not restart: '.$error->getMessage());
            $code = self::FAILURE;
        }
        $pids = $records->running();
        foreach ($pids as $pid) {
            if (Signals::terminate($pid)) {
                $this->info("Sent SIGTERM to the server with process id {$pid}.");
            } else {
                $this->error("SIGTERM cannot be sent to the server with process id {$pid}; does it run as another user?");
                $code = self::FAILURE;
            }
        }
        if ($pids === []) {
            $this->line('No other server of this project runs on this machine.');
        }

        return $code;
    }
}
