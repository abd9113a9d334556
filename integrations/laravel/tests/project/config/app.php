<?php

use Illuminate\Support\ServiceProvider;

// Laravel 8 has no default list.
$providers = method_exists(ServiceProvider::class, 'defaultProviders') ? ServiceProvider::defaultProviders()->toArray() : [
    Illuminate\Broadcasting\BroadcastServiceProvider::class,
    Illuminate\Bus\BusServiceProvider::class,
    Illuminate\Cache\CacheServiceProvider::class,
    Illuminate\Foundation\Providers\ConsoleSupportServiceProvider::class,
    Illuminate\Database\DatabaseServiceProvider::class,
    Illuminate\Encryption\EncryptionServiceProvider::class,
    Illuminate\Filesystem\FilesystemServiceProvider::class,
    Illuminate\Foundation\Providers\FoundationServiceProvider::class,
    Illuminate\Queue\QueueServiceProvider::class,
    Illuminate\Translation\TranslationServiceProvider::class,
    Illuminate\View\ViewServiceProvider::class,
];

// Reverb is installed too.
if (getenv('LARAVEL_TESTS_REVERB')) {
    require_once getenv('LARAVEL_TESTS').'/Support/ReverbServiceProvider.php';
    $providers[] = Laravel\Reverb\ReverbServiceProvider::class;
}

return [
    'name' => 'tests',
    'env' => env('APP_ENV', 'production'),
    'debug' => true,
    'key' => 'base64:'.base64_encode(str_repeat('k', 32)),
    'cipher' => 'AES-256-CBC',
    'timezone' => 'UTC',
    'locale' => 'en',
    'fallback_locale' => 'en',
    'maintenance' => ['driver' => 'file'],
    'providers' => [...$providers, Campanile\Laravel\Tests\Support\TestProvider::class],
];
