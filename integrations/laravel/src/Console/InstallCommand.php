<?php

namespace Campanile\Laravel\Console;

use Campanile\Laravel\CampanileServiceProvider;
use Campanile\Laravel\Install\EnvFile;
use Campanile\Laravel\Install\ReleaseDownloader;
use Campanile\Laravel\Install\ReleaseError;
use Campanile\Laravel\Server\BinaryFinder;
use Campanile\Laravel\Server\BinaryNotFound;
use Illuminate\Console\Command;
use Symfony\Component\Console\Attribute\AsCommand;

/**
 * Finds or downloads the server, and prepares the project for it. Running it again changes nothing that is there.
 */
#[AsCommand(name: 'campanile:install')]
class InstallCommand extends Command
{
    protected $signature = 'campanile:install
        {--download : Download the server even if there is one}
        {--url= : The folder of the release, instead of campanile.release.url}
        {--release= : The version, instead of campanile.release.version}
        {--sha256= : The SHA-256 of the tarball, instead of campanile.release.sha256}
        {--webhooks : Add the lines to .env that make the server send webhooks to this application}';

    protected $description = 'Install the broadcast server Campanile and prepare this project for it';

    /** Broadcasters that only stand for none. */
    private const NO_BROADCASTER = ['', 'log', 'null'];

    public function handle(BinaryFinder $finder, ReleaseDownloader $downloader): int
    {
        if (! file_exists($this->laravel->configPath('campanile.php'))) {
            $this->call('vendor:publish', ['--tag' => 'campanile-config']);
        }
        $hasServer = $this->installServer($finder, $downloader);
        $this->writeEnvironment();
        $this->mentionReverb();
        if ($hasServer) {
            $this->line('Start the server: php artisan '.$this->nameOfStart());
        }

        return $hasServer ? self::SUCCESS : self::FAILURE;
    }

    private function installServer(BinaryFinder $finder, ReleaseDownloader $downloader): bool
    {
        if (! $this->option('download')) {
            try {
                $this->info("The server is {$finder->find()}.");

                return true;
            } catch (BinaryNotFound $error) {
                $this->warn($error->getMessage());
            }
        }
        try {
            return $this->download($downloader);
        } catch (ReleaseError $error) {
            $this->error($error->getMessage());

            return false;
        }
    }

    private function download(ReleaseDownloader $downloader): bool
    {
        $release = $this->laravel['config']['campanile.release'];
        $url = $this->option('url') ?: $release['url'];
        if (! $url) {
            throw new ReleaseError('There is no address to download from: Campanile has no public address yet. Build the program from its '.
                'repository and set CAMPANILE_BINARY, or set campanile.release.url (CAMPANILE_RELEASES_URL) to a folder of your own.');
        }
        $version = $this->option('release') ?: $release['version'];
        if (! $version) {
            throw new ReleaseError('Which version? Set campanile.release.version, or give --release.');
        }
        $target = ReleaseDownloader::target();
        $expected = $this->option('sha256') ?: $release['sha256'][$target] ?? null;
        $installed = $downloader->install($url, $version, $target, $expected);
        $this->info("Installed {$installed['path']}, version {$version}.");
        if ($expected === null) {
            $this->line("Its sum is from the same address. To accept only this file from now on, enter it in config/campanile.php:\n".
                "'release' => ['version' => '{$version}', 'sha256' => ['{$target}' => '{$installed['sum']}'], …]");
        }

        return true;
    }

    private function writeEnvironment(): void
    {
        $path = $this->laravel->environmentFilePath();
        if (! is_file($path)) {
            $this->warn("{$path} does not exist, so no variables were written.");

            return;
        }
        $before = (string) file_get_contents($path);
        $file = new EnvFile($before);
        $added = array_filter($this->variables(), fn (string $value, string $name) => $file->add($name, $value), ARRAY_FILTER_USE_BOTH);
        $this->setBroadcaster($file);
        if ($file->text() === $before) {
            $this->info("{$path} has all variables.");
        } elseif (file_put_contents($path, $file->text(), LOCK_EX) === false) {
            $this->error("{$path} cannot be written.");
        } elseif ($added !== []) {
            $this->info("Added to {$path}: ".implode(', ', array_keys($added)).'.');
        }
    }

    /**
     * @return array<string, string>
     */
    private function variables(): array
    {
        $variables = [
            'REVERB_APP_ID' => (string) random_int(100_000, 999_999),
            'REVERB_APP_KEY' => bin2hex(random_bytes(10)),
            'REVERB_APP_SECRET' => bin2hex(random_bytes(20)),
            'REVERB_HOST' => 'localhost',
            'REVERB_PORT' => '8080',
            'REVERB_SCHEME' => 'http',
            'VITE_REVERB_APP_KEY' => '"${REVERB_APP_KEY}"',
            'VITE_REVERB_HOST' => '"${REVERB_HOST}"',
            'VITE_REVERB_PORT' => '"${REVERB_PORT}"',
            'VITE_REVERB_SCHEME' => '"${REVERB_SCHEME}"',
        ];
        if ($this->option('webhooks')) {
            $variables['CAMPANILE_APPS__0__WEBHOOKS__0__URL'] = '"${APP_URL}/'.ltrim($this->laravel['config']['campanile.webhooks.path'], '/').'"';
            $variables['CAMPANILE_APPS__0__WEBHOOKS__0__EVENTS'] = 'channel_occupied,channel_vacated,member_added,member_removed';
        }

        return $variables;
    }

    private function setBroadcaster(EnvFile $file): void
    {
        $name = 'BROADCAST_CONNECTION';
        $present = $file->get($name);
        if ($present === 'reverb') {
            return;
        }
        $isUnused = in_array((string) $present, self::NO_BROADCASTER, true);
        if (! $isUnused && ! $this->confirm("{$name} is {$present}. Change it to reverb?", false)) {
            $this->warn("{$name} stays {$present}: events are not broadcast through this server by default.");

            return;
        }
        $present === null ? $file->add($name, 'reverb') : $file->replace($name, 'reverb');
        $this->info("Set {$name} to reverb.");
    }

    private function mentionReverb(): void
    {
        if (! CampanileServiceProvider::reverbIsInstalled()) {
            return;
        }
        if ($this->laravel['config']['campanile.replace_reverb']) {
            $this->line('laravel/reverb is installed; reverb:start and reverb:restart are those of Campanile, because campanile.replace_reverb is true.');
        } else {
            $this->warn('laravel/reverb is installed, so reverb:start and reverb:restart start and restart Reverb. Remove it (composer remove '.
                'laravel/reverb), or set replace_reverb to true in config/campanile.php. Until then, use campanile:start and campanile:restart.');
        }
    }

    private function nameOfStart(): string
    {
        $isReverbs = CampanileServiceProvider::reverbIsInstalled() && ! $this->laravel['config']['campanile.replace_reverb'];

        return $isReverbs ? 'campanile:start' : 'reverb:start';
    }
}
