<?php

namespace Campanile\Laravel\Pulse;

use Illuminate\Contracts\Config\Repository;
use Illuminate\Support\Facades\Http;

/**
 * Reads numbers from running servers.
 */
class ServerApi
{
    public function __construct(private readonly Repository $config) {}

    /**
     * The configured apps, each once.
     *
     * @return array<string, array{id: string, key: string, secret: string}>
     */
    public function apps(): array
    {
        $apps = [];
        foreach ($this->config->get('campanile.apps') as $app) {
            if ((string) ($app['id'] ?? '') !== '' && (string) ($app['secret'] ?? '') !== '') {
                $apps[(string) $app['id']] ??= $app;
            }
        }

        return $apps;
    }

    /**
     * The number of connections of an app. With several nodes, each answers for all of them; the first that answers is taken.
     *
     * @param  array{id: string, key: string, secret: string}  $app
     */
    public function connections(array $app): int
    {
        $path = "/apps/{$app['id']}/connections";
        $query = http_build_query(['auth_key' => $app['key'], 'auth_timestamp' => time(), 'auth_version' => '1.0']);
        $signature = hash_hmac('sha256', "GET\n{$path}\n{$query}", $app['secret']);
        $failure = new UnreadableServer('No server is configured.');
        foreach ($this->servers() as $server) {
            try {
                return (int) json_decode($this->get("{$server}{$path}?{$query}&auth_signature={$signature}"), true)['connections'];
            } catch (UnreadableServer $failure) {
            }
        }
        throw $failure;
    }

    /** The addresses of `/metrics`, one for each node. @return list<string> */
    public function metricsAddresses(): array
    {
        return $this->config->get('campanile.pulse.metrics') ?: array_map(fn (string $server) => "{$server}/metrics", $this->servers());
    }

    /** The metrics of a node. */
    public function metrics(string $address): Metrics
    {
        $token = (string) $this->config->get('campanile.pulse.metrics_token');

        return new Metrics($this->get($address, $token === '' ? [] : ['Authorization' => "Bearer {$token}"]));
    }

    /**
     * The addresses of the nodes.
     *
     * @return list<string>
     */
    private function servers(): array
    {
        $configured = $this->config->get('campanile.pulse.servers');
        if ($configured) {
            return array_map(fn (string $server) => rtrim($server, '/'), $configured);
        }
        $options = $this->config->get('broadcasting.connections.reverb.options');
        if (! ($options['host'] ?? null)) {
            return [];
        }
        $path = trim((string) ($options['path'] ?? ''), '/');
        $address = ($options['scheme'] ?? 'https')."://{$options['host']}:".($options['port'] ?? 443);

        return [$path === '' ? $address : "{$address}/{$path}"];
    }

    private function get(string $address, array $headers = []): string
    {
        // Without its query, which has a signature.
        $shown = strtok($address, '?');
        try {
            $response = Http::withHeaders($headers)->timeout((int) $this->config->get('campanile.pulse.timeout_s'))->get($address);
        } catch (\Throwable) {
            throw new UnreadableServer("{$shown} does not answer.");
        }
        if (! $response->successful()) {
            throw new UnreadableServer("{$shown} answered with status {$response->status()}.");
        }

        return $response->body();
    }
}
