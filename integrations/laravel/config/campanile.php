<?php

return [

    // The program `campanile`. Without it: the one that campanile:install downloaded, vendor/bin, then PATH.
    'binary' => env('CAMPANILE_BINARY'),

    // A config.toml, or soketi's config.json. Without it, the server reads config.toml in the project if there is one.
    // It always reads the project's .env as well.
    'config' => null,

    // How reverb:start runs the server:
    // 'exec'   in the place of the artisan process, which needs pcntl. reverb:restart sends a signal, so it has to run on the same
    //          machine, or in the same container.
    // 'child'  as a child of the artisan process, which passes signals on. reverb:restart uses the cache, as Reverb does, so it can
    //          run on any machine that shares it.
    // null     'exec' if pcntl is there, otherwise 'child'.
    'process' => null,

    // With laravel/reverb installed, reverb:start and reverb:restart are Reverb's unless this is true. campanile:start and
    // campanile:restart are always Campanile's.
    'replace_reverb' => false,

    // Where campanile:install downloads campanile-VERSION-TARGET.tar.gz from. There is no public address yet, so there is no default.
    'release' => [
        // The folder of the files of a release. {version} is replaced, as in https://example.com/campanile/v{version}.
        'url' => env('CAMPANILE_RELEASES_URL'),
        // Such as 1.2.3.
        'version' => null,
        // The SHA-256 of the tarball, by target: ['x86_64-unknown-linux-musl' => '…']. Without it, SHA256SUMS of the same folder is
        // read, over HTTPS only.
        'sha256' => [],
        // The folder for the program.
        'path' => storage_path('campanile'),
    ],

    // The apps whose webhooks are accepted and whose connections Pulse shows. To change a secret, list the app with both for a while.
    'apps' => [
        [
            'id' => env('REVERB_APP_ID'),
            'key' => env('REVERB_APP_KEY'),
            'secret' => env('REVERB_APP_SECRET'),
        ],
    ],

    'webhooks' => [
        'enabled' => true,
        // The route, POST only. Enter its address as the URL of a webhook in the server's configuration.
        'path' => 'campanile/webhook',
        // Middleware of the route. The group `web` would reject all requests, because they have no CSRF token.
        'middleware' => [],
        // A larger body is answered with 413. The server sends at most 256 KiB, or one event of any size.
        'max_body_bytes' => 1048576,
        // A request that was made earlier is answered with 401. The server retries for 300 s. 0: any age.
        'max_age_s' => 600,
    ],

    'pulse' => [
        // The address of each node, such as ['http://10.0.0.1:8080', 'http://10.0.0.2:8080']; with a path if server.path is set.
        // Without it, the one address of the broadcasting connection `reverb`.
        'servers' => [],
        // Addresses of /metrics, if they differ: with metrics.listen, ['http://10.0.0.1:9601/metrics'].
        'metrics' => [],
        'metrics_token' => env('CAMPANILE_METRICS__TOKEN'),
        'timeout_s' => 3,
    ],

];
