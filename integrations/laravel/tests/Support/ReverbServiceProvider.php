<?php

namespace Laravel\Reverb;

use Illuminate\Console\Application as Artisan;
use Illuminate\Console\Command;
use Illuminate\Support\ServiceProvider;
use Symfony\Component\Console\Attribute\AsCommand;

// Stands for the provider of Laravel Reverb, which Debian does not have: registers commands of the same names in the same way.
final class ReverbServiceProvider extends ServiceProvider
{
    public function boot(): void
    {
        Artisan::starting(fn (Artisan $artisan) => $artisan->resolveCommands([ReverbStart::class, ReverbRestart::class]));
    }
}

#[AsCommand(name: 'reverb:start')]
final class ReverbStart extends Command
{
    protected $signature = 'reverb:start';

    public function handle(): void
    {
        $this->line('This is Reverb.');
    }
}

#[AsCommand(name: 'reverb:restart')]
final class ReverbRestart extends Command
{
    protected $signature = 'reverb:restart';

    public function handle(): void
    {
        $this->line('This is Reverb.');
    }
}
