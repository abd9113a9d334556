<?php

namespace Campanile\Laravel\Tests;

use Campanile\Laravel\Tests\Support\Client;
use Campanile\Laravel\Tests\Support\ProjectTestCase;
use Campanile\Laravel\Tests\Support\RunningProcess;

/**
 * A project with laravel/reverb, for which there is a stand-in.
 */
final class BesideReverbTest extends ProjectTestCase
{
    public function test_the_names_of_reverb_stay_its_own(): void
    {
        foreach (['reverb:start', 'reverb:restart'] as $name) {
            $process = $this->artisan($name);
            $this->assertSame(0, $process->awaitEnd());
            $this->assertSame('This is Reverb.', trim($process->output()));
        }
        (new Client($this->artisan('campanile:start', '--port=0')->awaitPort()))->subscribe('news');
        $restart = $this->artisan('campanile:restart');
        $restart->awaitEnd();
        $this->assertStringContainsString('Sent SIGTERM', $restart->output());
    }

    public function test_they_are_taken_over_on_request(): void
    {
        $this->project->configure(['replace_reverb' => true]);
        (new Client($this->artisan('reverb:start', '--port=0')->awaitPort()))->subscribe('news');
        $restart = $this->artisan('reverb:restart');
        $restart->awaitEnd();

        $this->assertStringContainsString('Sent SIGTERM', $restart->output());
    }

    public function test_the_installation_says_what_happens(): void
    {
        $install = $this->artisan('campanile:install', '--no-interaction');
        $this->assertSame(0, $install->awaitEnd(), $install->output());
        $this->assertStringContainsString('reverb:start and reverb:restart start and restart Reverb', $install->output());
        $this->assertStringContainsString('php artisan campanile:start', $install->output());

        $this->project->configure(['replace_reverb' => true]);
        $install = $this->artisan('campanile:install', '--no-interaction');
        $install->awaitEnd();
        $this->assertStringContainsString('are those of Campanile', $install->output());
        $this->assertStringContainsString('php artisan reverb:start', $install->output());
    }

    private function artisan(string ...$arguments): RunningProcess
    {
        return $this->project->artisan($arguments, environment: ['LARAVEL_TESTS_REVERB' => '1']);
    }
}
