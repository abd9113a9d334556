<?php

namespace Campanile\Laravel\Server;

use RuntimeException;

/**
 * The program `campanile` is not where it was expected. The message says what to do.
 */
final class BinaryNotFound extends RuntimeException
{
    public static function configured(string $path): self
    {
        return new self("campanile.binary (CAMPANILE_BINARY) is {$path}, which is not an executable file.");
    }

    public static function nowhere(string $installPath): self
    {
        return new self("The program campanile is neither in {$installPath}, nor in vendor/bin, nor in PATH. ".
            'Set CAMPANILE_BINARY to its path, or run: php artisan campanile:install');
    }
}
