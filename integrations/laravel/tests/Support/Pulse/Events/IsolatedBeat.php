<?php

namespace Laravel\Pulse\Events;

use Carbon\CarbonImmutable;

// Stands for the event that Laravel Pulse dispatches every second.
final class IsolatedBeat
{
    public function __construct(public CarbonImmutable $time) {}
}
