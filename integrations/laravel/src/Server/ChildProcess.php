<?php

namespace Campanile\Laravel\Server;

use Closure;
use RuntimeException;
use Symfony\Component\Process\ExecutableFinder;

/**
 * Runs the server as a child of this process: passes signals on, and asks it to end when a restart is requested.
 */
final class ChildProcess
{
    /** The signals that are passed on. */
    private const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'];

    private const TERMINATE = 15;

    /**
     * The shell replaces itself by the server, which so has the process id that proc_open knows. Beside it, a shell waits for
     * descriptor 3: a line says that the server has ended; its end, that this process was killed, and the server must end as well.
     * The server holds descriptor 4 open until it ends.
     */
    private const SCRIPT = '(read -r _ <&3 || kill -TERM $$) 4>&- >/dev/null 2>&1 & exec "$@" 3<&-';

    /** @var resource */
    private $process;

    private bool $isStopping = false;

    /**
     * @param  Closure(): bool  $restartIsRequested
     */
    public function __construct(
        private readonly Closure $restartIsRequested,
        private readonly int $pollSeconds = 5,
    ) {}

    /**
     * Runs the command until it ends.
     *
     * @param  list<string>  $command
     * @param  array<string, string>  $environment
     * @return int the exit code; 128 and the number of the signal that ended it
     */
    public function run(array $command, string $folder, array $environment): int
    {
        $descriptors = [0 => STDIN, 1 => STDOUT, 2 => STDERR, 3 => ['pipe', 'r'], 4 => ['pipe', 'w']];
        // In a session of its own: a signal that a terminal or a supervisor sends to the whole process group would reach the server a
        // second time, and a second SIGTERM ends it without draining.
        $setsid = (new ExecutableFinder)->find('setsid');
        $shell = [...($setsid === null ? [] : [$setsid]), '/bin/sh', '-c', self::SCRIPT, 'campanile'];
        $process = proc_open([...$shell, ...$command], $descriptors, $pipes, $folder, $environment);
        if ($process === false) {
            throw new RuntimeException("{$command[0]} cannot be started.");
        }
        $this->process = $process;
        $this->passSignalsOn();
        while (! $this->hasEnded($pipes[4])) {
            if (! $this->isStopping && ($this->restartIsRequested)()) {
                $this->send(self::TERMINATE);
            }
        }
        // Without setsid, that shell may have got a signal too.
        @fwrite($pipes[3], "\n");

        return $this->exitCode();
    }

    /** Waits for the end of the server, at most until the next poll. A signal ends the wait earlier. */
    private function hasEnded(mixed $pipe): bool
    {
        [$read, $write, $except] = [[$pipe], [], []];

        return (bool) @stream_select($read, $write, $except, $this->pollSeconds);
    }

    private function passSignalsOn(): void
    {
        if (! function_exists('pcntl_signal')) {
            return;
        }
        pcntl_async_signals(true);
        foreach (self::SIGNALS as $signal) {
            // Without restarting system calls, so that the wait ends.
            pcntl_signal(constant($signal), fn (int $number) => $this->send($number), false);
        }
    }

    private function send(int $signal): void
    {
        $this->isStopping = $this->isStopping || in_array($signal, [self::TERMINATE, 2, 3], true);
        proc_terminate($this->process, $signal);
    }

    private function exitCode(): int
    {
        do {
            $status = proc_get_status($this->process);
            // The pipe is closed a moment before the process is gone.
        } while ($status['running'] && usleep(1000) === null);

        return $status['signaled'] ? 128 + $status['termsig'] : $status['exitcode'];
    }
}
