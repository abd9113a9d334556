<?php

namespace Campanile\Laravel\Install;

use Closure;
use Illuminate\Support\Facades\Http;
use Symfony\Component\Process\Process;

/**
 * Downloads a release of the server, and keeps it only if its SHA-256 is the expected one.
 */
final class ReleaseDownloader
{
    /** No tarball is nearly as large. */
    private const MAX_BYTES = 268_435_456;

    private const TIMEOUT_S = 600;

    /**
     * @param  string  $folder  the folder for the program
     */
    public function __construct(private readonly string $folder) {}

    /**
     * The name of the target that releases have for this machine.
     *
     * @throws ReleaseError there is none
     */
    public static function target(string $system = PHP_OS_FAMILY, ?string $machine = null): string
    {
        $machine ??= php_uname('m');
        $processor = ['x86_64' => 'x86_64', 'amd64' => 'x86_64', 'aarch64' => 'aarch64', 'arm64' => 'aarch64'][$machine] ?? null;
        if ($system !== 'Linux' || $processor === null) {
            throw new ReleaseError("There is no release for {$system} on {$machine}.");
        }

        return "{$processor}-unknown-linux-musl";
    }

    /**
     * Installs the program.
     *
     * @param  string  $url  the folder of the release's files
     * @param  string|null  $sum  the expected SHA-256 of the tarball; null reads SHA256SUMS
     * @return array{path: string, sum: string}
     *
     * @throws ReleaseError
     */
    public function install(string $url, string $version, string $target, ?string $sum): array
    {
        $name = "campanile-{$version}-{$target}";
        $url = rtrim(str_replace('{version}', $version, $url), '/');
        if (! preg_match('/^[0-9A-Za-z.+-]+$/', $version)) {
            throw new ReleaseError("{$version} is not a version.");
        }
        $sum = $sum === null ? $this->publishedSum($url, "{$name}.tar.gz") : strtolower(trim($sum));
        if (! preg_match('/^[0-9a-f]{64}$/', $sum)) {
            throw new ReleaseError("{$sum} is not a SHA-256: it has 64 hexadecimal digits.");
        }
        $this->makeFolder();
        $work = "{$this->folder}/.download-".bin2hex(random_bytes(6));
        mkdir($work, 0700);
        try {
            $this->download("{$url}/{$name}.tar.gz", "{$work}/{$name}.tar.gz");
            $this->verify("{$work}/{$name}.tar.gz", $sum);
            $program = $this->unpack($work, $name);
            if (! rename($program, "{$this->folder}/campanile")) {
                throw new ReleaseError("{$this->folder}/campanile cannot be written.");
            }
        } finally {
            self::delete($work);
        }

        return ['path' => "{$this->folder}/campanile", 'sum' => $sum];
    }

    /** The sum of a file in SHA256SUMS, which nobody must be able to change on the way. */
    private function publishedSum(string $url, string $file): string
    {
        $isLoopback = preg_match('#^http://(127\.0\.0\.1|\[::1\]|localhost)([:/]|$)#', $url) === 1;
        if (! str_starts_with($url, 'https://') && ! $isLoopback) {
            throw new ReleaseError("Without campanile.release.sha256, the address must begin with https://: {$url}");
        }
        $sums = $this->get("{$url}/SHA256SUMS", $isLoopback ? ['http'] : ['https']);
        if (! preg_match('/^([0-9a-fA-F]{64}) [ *]'.preg_quote($file, '/').'$/m', $sums, $found)) {
            throw new ReleaseError("{$url}/SHA256SUMS does not list {$file}.");
        }

        return strtolower($found[1]);
    }

    private function get(string $url, array $protocols): string
    {
        return $this->attempt($url, fn () => Http::withOptions(['allow_redirects' => ['protocols' => $protocols]])->timeout(self::TIMEOUT_S)->get($url))->body();
    }

    private function download(string $url, string $file): void
    {
        $progress = function ($total, $now) {
            if ($now > self::MAX_BYTES) {
                throw new ReleaseError('The file is larger than '.self::MAX_BYTES.' bytes.');
            }
        };
        $this->attempt($url, fn () => Http::withOptions(['sink' => $file, 'progress' => $progress])->timeout(self::TIMEOUT_S)->get($url));
    }

    private function attempt(string $url, Closure $request): mixed
    {
        try {
            $response = $request();
        } catch (ReleaseError $error) {
            throw $error;
        } catch (\Throwable $error) {
            throw new ReleaseError("{$url} cannot be read: {$error->getMessage()}");
        }
        if (! $response->successful()) {
            throw new ReleaseError("{$url} was answered with status {$response->status()}.");
        }

        return $response;
    }

    private function verify(string $file, string $sum): void
    {
        $actual = hash_file('sha256', $file);
        if (! hash_equals($sum, (string) $actual)) {
            throw new ReleaseError("The SHA-256 of the download is {$actual}, but {$sum} was expected. Nothing was installed.");
        }
    }

    /** Unpacks only the program, and returns its path. */
    private function unpack(string $work, string $name): string
    {
        $this->run(['tar', '-xzf', "{$work}/{$name}.tar.gz", '-C', $work, "{$name}/campanile"], 'The tarball cannot be unpacked');
        $program = "{$work}/{$name}/campanile";
        chmod($program, 0755);
        $this->run([$program, '--version'], 'The program does not run on this machine');

        return $program;
    }

    private function run(array $command, string $failure): void
    {
        $process = new Process($command);
        try {
            $process->run();
        } catch (\Throwable $error) {
            throw new ReleaseError("{$failure}: {$error->getMessage()}");
        }
        if (! $process->isSuccessful()) {
            throw new ReleaseError("{$failure}: ".trim($process->getErrorOutput()));
        }
    }

    private function makeFolder(): void
    {
        if (! is_dir($this->folder) && ! @mkdir($this->folder, 0755, true)) {
            throw new ReleaseError("{$this->folder} cannot be made.");
        }
        if (! file_exists("{$this->folder}/.gitignore")) {
            file_put_contents("{$this->folder}/.gitignore", "*\n");
        }
    }

    private static function delete(string $folder): void
    {
        foreach (array_diff(scandir($folder) ?: [], ['.', '..']) as $entry) {
            is_dir("{$folder}/{$entry}") ? self::delete("{$folder}/{$entry}") : unlink("{$folder}/{$entry}");
        }
        rmdir($folder);
    }
}
