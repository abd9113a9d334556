<?php

namespace Campanile\Laravel\Server;

use Symfony\Component\Process\Process;

/**
 * Sends signals with or without PHP's extension posix.
 */
final class Signals
{
    /** Whether the signal was sent. */
    public static function terminate(int $pid): bool
    {
        if (function_exists('posix_kill')) {
            return posix_kill($pid, 15);
        }

        return (new Process(['kill', '-TERM', (string) $pid]))->run() === 0;
    }
}
