<?php

// Laravel's `reverb` connection speaks the Pusher protocol, like Campanile, so it needs no special settings.

return [

    'default' => env('BROADCAST_CONNECTION', 'null'),

    'connections' => [

        'reverb' => [
            'driver' => 'reverb',
            'app_id' => env('REVERB_APP_ID'),
            'key' => env('REVERB_APP_KEY'),
            'secret' => env('REVERB_APP_SECRET'),
            'options' => [
                'host' => env('REVERB_HOST', 'localhost'),
                'port' => env('REVERB_PORT', 8080),
                'scheme' => env('REVERB_SCHEME', 'http'),
                'useTLS' => env('REVERB_SCHEME', 'http') === 'https',
                // If Campanile has a path, such as `/ws/`: the slash at the end is needed behind a proxy.
                'path' => env('REVERB_SERVER_PATH', ''),
                // For encrypted channels. Not null: the SDK takes an empty text as none.
                'encryption_master_key_base64' => env('BROADCAST_ENCRYPTION_KEY', ''),
            ],
            // For Guzzle. Campanile answers a publish within `broker_wait_ms` even if Redis is unreachable, so a much
            // longer timeout has no use.
            'client_options' => [
                'connect_timeout' => 2,
                'timeout' => 5,
            ],
        ],

        // For tests, and for machines without Campanile.
        'log' => ['driver' => 'log'],
        'null' => ['driver' => 'null'],

    ],

];
