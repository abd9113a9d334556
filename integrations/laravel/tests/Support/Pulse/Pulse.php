<?php

namespace Laravel\Pulse;

// Stands for Laravel Pulse, which Debian does not have: keeps what is recorded. Its methods are those that the recorders call.
final class Pulse
{
    /** @var list<Entry> */
    public array $entries = [];

    public function record(string $type, string $key, ?int $value = null, ?int $timestamp = null): Entry
    {
        return $this->entries[] = new Entry($type, $key, $value, $timestamp);
    }
}
