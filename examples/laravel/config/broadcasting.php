<?php

// Laravel's `reverb` connection speaks the Pusher protocol, and so does Campanile: nothing here is special to it.

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
            ],
            // For Guzzle. Campanile answers a publish within `broker_wait_ms` even when Redis is away; a worker that
            // waits much longer than that waits for nothing.
            'client_options' => [
                'connect_timeout' => 2,
                'timeout' => 5,
            ],
        ],

        // For tests and for a machine without Campanile.
        'log' => ['driver' => 'log'],
        'null' => ['driver' => 'null'],

    ],

];
