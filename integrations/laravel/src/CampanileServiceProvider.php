<?php

namespace Campanile\Laravel;

use Campanile\Laravel\Console\InstallCommand;
use Campanile\Laravel\Console\RestartCommand;
use Campanile\Laravel\Console\ReverbRestartCommand;
use Campanile\Laravel\Console\ReverbStartCommand;
use Campanile\Laravel\Console\StartCommand;
use Campanile\Laravel\Install\ReleaseDownloader;
use Campanile\Laravel\Pulse\Livewire\Connections;
use Campanile\Laravel\Pulse\Livewire\Messages;
use Campanile\Laravel\Pulse\ServerApi;
use Campanile\Laravel\Server\BinaryFinder;
use Campanile\Laravel\Server\ServerRecords;
use Campanile\Laravel\Webhooks\WebhookController;
use Campanile\Laravel\Webhooks\WebhookVerifier;
use Illuminate\Foundation\DevCommands;
use Illuminate\Support\Facades\Route;
use Illuminate\Support\ServiceProvider;

/**
 * Registers the commands, the route of webhooks and the cards of Pulse.
 */
class CampanileServiceProvider extends ServiceProvider
{
    public function register(): void
    {
        $this->mergeConfigFrom(__DIR__.'/../config/campanile.php', 'campanile');

        $this->app->bind(BinaryFinder::class, fn ($app) => new BinaryFinder(
            $app['config']['campanile.binary'],
            $app->basePath(),
            $app['config']['campanile.release.path'],
        ));
        $this->app->bind(ReleaseDownloader::class, fn ($app) => new ReleaseDownloader($app['config']['campanile.release.path']));
        $this->app->bind(ServerRecords::class, fn ($app) => new ServerRecords($app->storagePath().'/framework/campanile'));
        $this->app->bind(WebhookVerifier::class, fn ($app) => new WebhookVerifier(
            $app['config']['campanile.apps'],
            $app['config']['campanile.webhooks.max_age_s'],
        ));
        $this->app->bind(ServerApi::class, fn ($app) => new ServerApi($app['config']));
    }

    public function boot(): void
    {
        $this->registerWebhooks();
        if ($this->app->runningInConsole()) {
            $this->publishes([__DIR__.'/../config/campanile.php' => $this->app->configPath('campanile.php')], ['campanile', 'campanile-config']);
            $this->commands([StartCommand::class, RestartCommand::class, InstallCommand::class]);
            $this->registerReverbCommands();
        }
        $this->registerCards();
    }

    /** Whether laravel/reverb is installed, whose commands have the same names. */
    public static function reverbIsInstalled(): bool
    {
        return class_exists(\Laravel\Reverb\ReverbServiceProvider::class);
    }

    private function registerReverbCommands(): void
    {
        if (self::reverbIsInstalled() && ! $this->app['config']['campanile.replace_reverb']) {
            return;
        }
        // After Reverb's provider has booted: of two commands with a name, the one that is registered last counts.
        $this->app->booted(fn () => $this->commands([ReverbStartCommand::class, ReverbRestartCommand::class]));
        // `php artisan dev` and `php artisan reload` of newer versions of Laravel.
        if (class_exists(DevCommands::class) && ! self::reverbIsInstalled()) {
            DevCommands::artisan('reverb:start', 'campanile');
        }
        if (method_exists($this, 'reloads')) {
            $this->reloads('reverb:restart', 'reverb');
        }
    }

    private function registerWebhooks(): void
    {
        $webhooks = $this->app['config']['campanile.webhooks'];
        if ($webhooks['enabled'] && ! ($this->app->routesAreCached())) {
            Route::post($webhooks['path'], WebhookController::class)->middleware($webhooks['middleware'])->name('campanile.webhook');
        }
    }

    private function registerCards(): void
    {
        if (! $this->app->bound(\Laravel\Pulse\Pulse::class)) {
            return;
        }
        $this->loadViewsFrom(__DIR__.'/../resources/views', 'campanile');
        $this->callAfterResolving('livewire', function ($livewire) {
            $livewire->component('campanile.connections', Connections::class);
            $livewire->component('campanile.messages', Messages::class);
        });
    }
}
