<?php

namespace Campanile\Laravel\Server;

/**
 * Finds the program `campanile`.
 */
final class BinaryFinder
{
    /**
     * @param  string|null  $configured  a path, which then has to exist
     * @param  string  $basePath  the folder of the project
     * @param  string  $installPath  the folder that campanile:install downloads into
     */
    public function __construct(
        private readonly ?string $configured,
        private readonly string $basePath,
        private readonly string $installPath,
    ) {}

    /**
     * The absolute path of the program.
     *
     * @throws BinaryNotFound
     */
    public function find(): string
    {
        if ($this->configured !== null && $this->configured !== '') {
            $path = $this->absolute($this->configured);

            return self::isProgram($path) ? $path : throw BinaryNotFound::configured($path);
        }
        $path = (string) getenv('PATH');
        $folders = [$this->installPath, $this->basePath.'/vendor/bin', ...array_filter(explode(PATH_SEPARATOR, $path))];
        foreach ($folders as $folder) {
            $candidate = $this->absolute($folder).'/campanile';
            if (self::isProgram($candidate)) {
                return $candidate;
            }
        }
        throw BinaryNotFound::nowhere($this->installPath);
    }

    private function absolute(string $path): string
    {
        return str_starts_with($path, '/') ? $path : $this->basePath.'/'.$path;
    }

    private static function isProgram(string $path): bool
    {
        return is_file($path) && is_executable($path);
    }
}
