<?php

namespace Campanile\Laravel\Tests\Support;

use RuntimeException;

/**
 * A process whose output is read from a file.
 */
final class RunningProcess
{
    private const DEADLINE_S = 30;

    public readonly int $pid;

    /** @var resource */
    private $process;

    private readonly string $outputFile;

    private ?int $exitCode = null;

    public function __construct(array $command, string $folder, array $environment)
    {
        $this->outputFile = (string) tempnam(sys_get_temp_dir(), 'campanile-output-');
        $output = ['file', $this->outputFile, 'a'];
        $process = proc_open($command, [['file', '/dev/null', 'r'], $output, $output], $pipes, $folder, $environment);
        $this->process = $process ?: throw new RuntimeException("{$command[0]} cannot be started");
        $this->pid = proc_get_status($this->process)['pid'];
    }

    public function output(): string
    {
        return (string) @file_get_contents($this->outputFile);
    }

    /** Waits until the output matches; returns the parts of the match. */
    public function awaitOutput(string $pattern): array
    {
        $found = [];
        self::await(function () use ($pattern, &$found): bool {
            $hasEnded = $this->hasEnded();
            if (preg_match($pattern, $this->output(), $found) === 1) {
                return true;
            }

            return $hasEnded ? throw new RuntimeException("the process has ended without {$pattern}:\n{$this->output()}") : false;
        }, fn () => "no {$pattern} in:\n{$this->output()}");

        return $found;
    }

    /** Waits for the address that the server prints; returns its port. */
    public function awaitPort(): int
    {
        return (int) $this->awaitOutput('#listens on http://127\.0\.0\.1:(\d+)#')[1];
    }

    /** Waits for the end; returns the exit code. */
    public function awaitEnd(): int
    {
        self::await(fn () => $this->hasEnded(), fn () => "the process does not end:\n{$this->output()}");

        return (int) $this->exitCode;
    }

    public function signal(int $signal): void
    {
        proc_terminate($this->process, $signal);
    }

    public function hasEnded(): bool
    {
        if ($this->exitCode === null) {
            $status = proc_get_status($this->process);
            $this->exitCode = match (true) {
                $status['running'] => null,
                $status['signaled'] => 128 + $status['termsig'],
                default => $status['exitcode'],
            };
        }

        return $this->exitCode !== null;
    }

    public function kill(): void
    {
        if (! $this->hasEnded()) {
            $this->signal(SIGKILL);
            $this->awaitEnd();
        }
        @unlink($this->outputFile);
    }

    /**
     * Waits until a condition is true.
     *
     * @param  callable(): bool  $condition
     * @param  callable(): string  $failure  what to say otherwise
     */
    public static function await(callable $condition, callable $failure): void
    {
        $end = microtime(true) + self::DEADLINE_S;
        while (! $condition()) {
            if ($end < microtime(true)) {
                throw new RuntimeException($failure());
            }
            usleep(5000);
        }
    }
}
