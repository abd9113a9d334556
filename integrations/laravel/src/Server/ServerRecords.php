<?php

namespace Campanile\Laravel\Server;

use RuntimeException;

/**
 * Files with the process ids of servers that took the place of reverb:start, one each, for reverb:restart to find them.
 *
 * A record has the start time of the process as well, so that another process that got the same id later is not mistaken for the server.
 */
final class ServerRecords
{
    public function __construct(private readonly string $folder) {}

    /**
     * Records this process. Its id and start time stay the same when another program takes its place.
     *
     * @throws RuntimeException the folder cannot be written
     */
    public function add(): void
    {
        $pid = (int) getmypid();
        if (! is_dir($this->folder) && ! @mkdir($this->folder, 0775, true) && ! is_dir($this->folder)) {
            throw new RuntimeException("{$this->folder} cannot be made.");
        }
        $this->running();
        $record = json_encode(['pid' => $pid, 'started' => self::startOf($pid)]);
        if (@file_put_contents($this->file($pid), $record) === false) {
            throw new RuntimeException("{$this->file($pid)} cannot be written.");
        }
    }

    /** Removes the record of this process. */
    public function remove(): void
    {
        @unlink($this->file((int) getmypid()));
    }

    /**
     * The process ids of running servers. Records of others are deleted.
     *
     * @return list<int>
     */
    public function running(): array
    {
        $running = [];
        foreach (glob($this->folder.'/*.json') ?: [] as $file) {
            $record = json_decode((string) @file_get_contents($file), true);
            $started = is_array($record) ? $record['started'] ?? null : null;
            if ($started !== null && $started === self::startOf((int) $record['pid'])) {
                $running[] = (int) $record['pid'];
            } else {
                @unlink($file);
            }
        }

        return $running;
    }

    private function file(int $pid): string
    {
        return "{$this->folder}/{$pid}.json";
    }

    /** When a process was started, in clock ticks since the machine was; null without such a process. See proc(5). */
    private static function startOf(int $pid): ?string
    {
        $stat = (string) @file_get_contents("/proc/{$pid}/stat");
        // The name of the program, in parentheses, may have spaces and parentheses itself.
        $fields = explode(' ', trim((string) strrchr($stat, ')')));

        return $fields[20] ?? null;
    }
}
