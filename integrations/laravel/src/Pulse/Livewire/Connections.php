<?php

namespace Campanile\Laravel\Pulse\Livewire;

use Campanile\Laravel\Pulse\Recorders\CampanileConnections;
use Illuminate\Support\Collection;

/**
 * The connections of each app: the highest and the average number.
 */
class Connections extends ChartCard
{
    protected const NAME = 'campanile-connections';

    protected const TITLE = 'Campanile Connections';

    protected const SERIES = [
        ['label' => 'Peak', 'color' => '#9333ea'],
        ['label' => 'Average', 'color' => '#10b981'],
    ];

    protected function charts(): Collection
    {
        $type = CampanileConnections::TYPE;
        $averages = $this->graph([$type], 'avg');

        return $this->graph([$type], 'max')->map(fn ($readings, $app) => [$readings[$type], $averages[$app][$type] ?? collect()]);
    }
}
