<?php

namespace Campanile\Laravel\Pulse;

/**
 * Metrics in the text format of Prometheus.
 */
final class Metrics
{
    public function __construct(private readonly string $text) {}

    /**
     * The sum of a metric over its labels; 0 without one.
     *
     * @param  string|null  $without  a label that is left out, such as `kind="control"`
     */
    public function sum(string $name, ?string $without = null): float
    {
        preg_match_all('/^'.preg_quote($name, '/').'(\{[^\n]*\})? (\S+)/m', $this->text, $series, PREG_SET_ORDER);
        $counted = array_filter($series, fn (array $found) => $without === null || ! str_contains($found[1], $without));

        return array_sum(array_map(fn (array $found) => (float) $found[2], $counted));
    }
}
