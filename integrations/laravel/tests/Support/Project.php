<?php

namespace Campanile\Laravel\Tests\Support;

use FilesystemIterator;
use RecursiveDirectoryIterator;
use RecursiveIteratorIterator;

/**
 * A Laravel project in a folder of its own, in which the package is installed.
 */
final class Project
{
    public const ID = '3001';

    public const KEY = 'tests-key';

    public const SECRET = 'tests-secret-of-forty-characters-00000000';

    public readonly string $path;

    /** @var list<RunningProcess> */
    private array $processes = [];

    public function __construct()
    {
        $this->path = sys_get_temp_dir().'/campanile-laravel-'.bin2hex(random_bytes(6));
        self::copy(dirname(__DIR__).'/project', $this->path);
        foreach (['bootstrap/cache', 'storage/framework/cache/data', 'storage/framework/views', 'storage/logs', 'vendor/composer'] as $folder) {
            @mkdir("{$this->path}/{$folder}", 0755, true);
        }
        // Laravel discovers the package as Composer has installed it.
        $manifest = json_decode((string) file_get_contents(dirname(__DIR__, 2).'/composer.json'), true);
        file_put_contents("{$this->path}/vendor/composer/installed.json", json_encode(['packages' => [$manifest]]));
        $this->writeEnv([]);
    }

    /** The server that is tested. */
    public static function server(): string
    {
        return getenv('CAMPANILE_BIN') ?: dirname(__DIR__, 4).'/target/debug/campanile';
    }

    /** Writes .env with these variables beside those of the app. */
    public function writeEnv(array $variables): void
    {
        $variables += [
            'REVERB_APP_ID' => self::ID,
            'REVERB_APP_KEY' => self::KEY,
            'REVERB_APP_SECRET' => self::SECRET,
            'REVERB_SERVER_HOST' => '127.0.0.1',
            'CAMPANILE_BINARY' => self::server(),
        ];
        $lines = array_map(fn ($name, $value) => "{$name}={$value}\n", array_keys($variables), $variables);
        file_put_contents("{$this->path}/.env", implode('', $lines));
    }

    /** Sets keys of config/campanile.php, such as `['webhooks' => ['max_age_s' => 5]]`. */
    public function configure(array $values): void
    {
        $package = var_export(dirname(__DIR__, 2).'/config/campanile.php', true);
        $values = var_export($values, true);
        file_put_contents("{$this->path}/config/campanile.php", "<?php return array_replace_recursive(require {$package}, {$values});");
    }

    /** Starts an artisan command. */
    public function artisan(array $arguments, array $php = [], array $before = [], array $environment = []): RunningProcess
    {
        return $this->start([...$before, PHP_BINARY, ...$php, 'artisan', ...$arguments], $environment);
    }

    /** Starts the application on PHP's web server, and returns its address. */
    public function serve(): string
    {
        $process = $this->start([PHP_BINARY, '-S', '127.0.0.1:0', '-t', 'public', 'public/index.php']);

        return 'http://127.0.0.1:'.$process->awaitOutput('#Development Server \(http://127\.0\.0\.1:(\d+)\) started#')[1];
    }

    public function start(array $command, array $environment = []): RunningProcess
    {
        // The developer's environment must not affect the project.
        $environment += array_filter([
            'PATH' => getenv('PATH'),
            'HOME' => $this->path,
            'LARAVEL_TESTS' => dirname(__DIR__),
            'LARAVEL_AUTOLOAD' => getenv('LARAVEL_AUTOLOAD'),
        ]);

        return $this->processes[] = new RunningProcess($command, $this->path, $environment);
    }

    public function text(string $file): string
    {
        return is_file("{$this->path}/{$file}") ? (string) file_get_contents("{$this->path}/{$file}") : '';
    }

    /** The events that listeners of the application have got. */
    public function events(): array
    {
        $lines = array_filter(explode("\n", $this->text('storage'.TestProvider::FILE)));

        return array_map(fn (string $line) => json_decode($line, true, flags: JSON_THROW_ON_ERROR), array_values($lines));
    }

    /** Ends all processes and deletes the folder. */
    public function delete(): void
    {
        foreach ($this->processes as $process) {
            $process->kill();
        }
        $entries = new RecursiveDirectoryIterator($this->path, FilesystemIterator::SKIP_DOTS);
        foreach (new RecursiveIteratorIterator($entries, RecursiveIteratorIterator::CHILD_FIRST) as $entry) {
            $entry->isDir() && ! $entry->isLink() ? rmdir($entry->getPathname()) : unlink($entry->getPathname());
        }
        rmdir($this->path);
    }

    private static function copy(string $from, string $to): void
    {
        mkdir($to, 0755, true);
        foreach (array_diff(scandir($from) ?: [], ['.', '..']) as $entry) {
            is_dir("{$from}/{$entry}") ? self::copy("{$from}/{$entry}", "{$to}/{$entry}") : copy("{$from}/{$entry}", "{$to}/{$entry}");
        }
    }
}
