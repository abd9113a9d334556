<x-pulse::card :cols="$cols" :rows="$rows" :class="$class">
    <x-pulse::card-header
        :name="$title"
        title="Time: {{ number_format($time) }}ms; Run at: {{ $runAt }};"
        details="past {{ $this->periodForHumans() }}"
    >
        <x-slot:icon>
            <x-pulse::icons.arrows-left-right />
        </x-slot:icon>
        <x-slot:actions>
            <div class="flex flex-wrap gap-4">
                @foreach ($series as $line)
                    <div class="flex items-center gap-2 text-xs text-gray-600 dark:text-gray-400 font-medium">
                        <div class="h-0.5 w-3 rounded-full" style="background-color: {{ $line['color'] }}"></div>
                        {{ $line['label'] }}
                    </div>
                @endforeach
            </div>
        </x-slot:actions>
    </x-pulse::card-header>

    <x-pulse::scroll :expand="$expand" wire:poll.5s="">
        @if ($charts === [])
            <x-pulse::no-results />
        @else
            <div class="grid gap-3 mx-px mb-px">
                @foreach ($charts as $key => $lines)
                    <div wire:key="{{ $name }}:{{ $key }}">
                        <h3 class="flex justify-between text-gray-700 dark:text-gray-300">
                            <span class="font-bold">{{ $key }}</span>
                            <span class="text-xs">max. {{ number_format(max([0, ...array_merge(...array_map('array_values', $lines))])) }}</span>
                        </h3>
                        <div wire:ignore class="mt-3 h-14" x-data="campanileChart(@js($name), @js((string) $key), @js($series), @js($lines))">
                            <canvas x-ref="canvas" class="ring-1 ring-gray-900/5 dark:ring-gray-100/10 bg-gray-50 dark:bg-gray-800 rounded-md shadow-sm"></canvas>
                        </div>
                    </div>
                @endforeach
            </div>
        @endif
    </x-pulse::scroll>
</x-pulse::card>

@script
<script>
Alpine.data('campanileChart', (name, key, series, lines) => ({
    init() {
        const values = (line) => Object.values(line ?? {})
        let chart = new Chart(this.$refs.canvas, {
            type: 'line',
            data: {
                labels: Object.keys(lines[0]),
                datasets: series.map(({ label, color }, at) => ({ label, borderColor: color, data: values(lines[at]), order: at })),
            },
            options: {
                maintainAspectRatio: false,
                datasets: { line: { borderWidth: 2, borderCapStyle: 'round', pointHitRadius: 10, pointStyle: false, tension: 0.2 } },
                scales: { x: { display: false }, y: { display: false, min: 0 } },
                plugins: { legend: { display: false }, tooltip: { mode: 'index', intersect: false } },
            },
        })
        const stop = Livewire.on(`${name}-update`, ({ charts }) => {
            if (charts[key] === undefined) {
                chart.destroy()
                stop()
                return
            }
            chart.data.labels = Object.keys(charts[key][0])
            charts[key].forEach((line, at) => { chart.data.datasets[at].data = values(line) })
            chart.update()
        })
    },
}))
</script>
@endscript
