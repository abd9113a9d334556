<?php

namespace Campanile\Laravel\Server;

/**
 * The environment that the artisan process was started with.
 *
 * Laravel adds the lines of .env to its environment. The server must not inherit them: it reads .env itself, and a variable of the
 * environment would win over the changed line in .env when the server reloads.
 */
final class OriginalEnvironment
{
    /**
     * @return array<string, string>
     */
    public static function variables(string $file = '/proc/self/environ'): array
    {
        $text = is_readable($file) ? (string) file_get_contents($file) : '';
        $variables = [];
        foreach (array_filter(explode("\0", $text), fn (string $line) => $line !== '') as $line) {
            [$name, $value] = [...explode('=', $line, 2), null];
            if ($value === null) {
                // A process title overwrites this memory.
                return getenv();
            }
            $variables[$name] = $value;
        }

        return $variables === [] ? getenv() : $variables;
    }
}
