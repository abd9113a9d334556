<?php

namespace Laravel\Pulse;

// Stands for an entry of Laravel Pulse.
final class Entry
{
    /** @var list<string> */
    public array $aggregations = [];

    public function __construct(public string $type, public string $key, public ?int $value, public ?int $timestamp) {}

    public function __call(string $aggregation, array $arguments): self
    {
        $this->aggregations[] = $aggregation;

        return $this;
    }
}
