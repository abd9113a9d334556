<?php

namespace Campanile\Laravel\Pulse\Livewire;

use Campanile\Laravel\Pulse\Recorders\CampanileMessages;
use Illuminate\Support\Collection;

/**
 * The messages that each node has sent and received.
 */
class Messages extends ChartCard
{
    protected const NAME = 'campanile-messages';

    protected const TITLE = 'Campanile Messages';

    protected const SERIES = [
        ['label' => 'Sent', 'color' => '#9333ea'],
        ['label' => 'Received', 'color' => '#10b981'],
    ];

    protected function charts(): Collection
    {
        $types = array_values(CampanileMessages::TYPES);

        return $this->graph($types, 'sum')->map(fn ($readings) => array_map(fn (string $type) => $readings[$type], $types));
    }
}
