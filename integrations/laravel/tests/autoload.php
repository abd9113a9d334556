<?php

// Loads the package, and Laravel: that of LARAVEL_AUTOLOAD, or Debian's.

$laravel = getenv('LARAVEL_AUTOLOAD');
if ($laravel) {
    require_once $laravel;
} else {
    require_once 'Illuminate/autoload.php';
    require_once 'GuzzleHttp/autoload.php';
}

spl_autoload_register(function (string $class): void {
    foreach ([
        'Campanile\\Laravel\\Tests\\' => __DIR__,
        'Campanile\\Laravel\\' => dirname(__DIR__).'/src',
    ] as $prefix => $folder) {
        if (str_starts_with($class, $prefix)) {
            $file = $folder.'/'.str_replace('\\', '/', substr($class, strlen($prefix))).'.php';
            if (is_file($file)) {
                require $file;

                return;
            }
        }
    }
});
