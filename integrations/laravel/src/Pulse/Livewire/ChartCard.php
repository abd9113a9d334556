<?php

namespace Campanile\Laravel\Pulse\Livewire;

use Illuminate\Contracts\Support\Renderable;
use Illuminate\Support\Collection;
use Illuminate\Support\Facades\Request;
use Illuminate\Support\Facades\View;
use Laravel\Pulse\Livewire\Card;
use Livewire\Attributes\Lazy;

/**
 * A card with a chart for each app or node.
 */
#[Lazy]
abstract class ChartCard extends Card
{
    /** The name of the card and of the event that updates its charts. */
    protected const NAME = '';

    protected const TITLE = '';

    /**
     * The lines of each chart.
     *
     * @var list<array{label: string, color: string}>
     */
    protected const SERIES = [];

    /**
     * The values of the lines of each chart, in the order of SERIES: `['my-app' => [['2030-01-01 00:00:00' => 3, …], …]]`.
     *
     * @return Collection<string, list<Collection<string, int|float|null>>>
     */
    abstract protected function charts(): Collection;

    public function render(): Renderable
    {
        [$charts, $time, $runAt] = $this->remember(fn () => $this->charts()->map(
            fn (array $lines) => array_map(fn ($line) => collect($line)->all(), $lines)
        )->all());
        if (Request::hasHeader('X-Livewire')) {
            $this->dispatch(static::NAME.'-update', charts: $charts);
        }

        return View::make('campanile::livewire.chart', [
            'charts' => $charts,
            'time' => $time,
            'runAt' => $runAt,
            'name' => static::NAME,
            'title' => static::TITLE,
            'series' => static::SERIES,
        ]);
    }
}
