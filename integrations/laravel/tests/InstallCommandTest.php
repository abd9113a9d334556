<?php

namespace Campanile\Laravel\Tests;

use Campanile\Laravel\Install\EnvFile;
use Campanile\Laravel\Install\ReleaseDownloader;
use Campanile\Laravel\Install\ReleaseError;
use Campanile\Laravel\Tests\Support\Project;
use Campanile\Laravel\Tests\Support\ProjectTestCase;

final class InstallCommandTest extends ProjectTestCase
{
    private const PROGRAM = "#!/bin/sh\necho campanile 1.2.3\n";

    public function test_a_program_that_is_there_is_used_and_the_configuration_is_published(): void
    {
        [$code, $output] = $this->install();

        $this->assertSame(0, $code, $output);
        $this->assertStringContainsString('The server is /', $output);
        $this->assertFileEquals(dirname(__DIR__).'/config/campanile.php', "{$this->project->path}/config/campanile.php");
    }

    public function test_missing_variables_are_added_once(): void
    {
        file_put_contents("{$this->project->path}/.env", $before = "APP_NAME=tests\nREVERB_APP_KEY=my-key\nREVERB_APP_SECRET=\n# REVERB_PORT=9\nBROADCAST_CONNECTION=log");
        [, $output] = $this->install();
        $after = $this->project->text('.env');

        $this->assertStringStartsWith("APP_NAME=tests\nREVERB_APP_KEY=my-key\nREVERB_APP_SECRET=", $after);
        $this->assertMatchesRegularExpression('/^REVERB_APP_SECRET=[0-9a-f]{40}$/m', $after);
        $this->assertMatchesRegularExpression('/^REVERB_APP_ID=[1-9][0-9]{5}$/m', $after);
        $this->assertMatchesRegularExpression('/^# REVERB_PORT=9\nBROADCAST_CONNECTION=reverb\n/m', $after);
        $this->assertMatchesRegularExpression('/^REVERB_PORT=8080$/m', $after);
        $this->assertStringContainsString("VITE_REVERB_HOST=\"\${REVERB_HOST}\"\n", $after);
        $this->assertStringNotContainsString('WEBHOOKS', $after);
        $this->assertStringNotContainsString(' REVERB_APP_KEY,', $output);

        $this->install();
        $this->assertSame($after, $this->project->text('.env'));
    }

    public function test_another_broadcaster_stays_unless_it_is_confirmed(): void
    {
        $this->project->writeEnv(['BROADCAST_CONNECTION' => 'pusher']);
        [, $output] = $this->install();

        $this->assertStringContainsString("BROADCAST_CONNECTION=pusher\n", $this->project->text('.env'));
        $this->assertStringContainsString('stays pusher', $output);
    }

    public function test_webhooks_are_written_in_the_form_that_the_server_reads(): void
    {
        $this->project->writeEnv(['APP_URL' => 'http://127.0.0.1:9']);
        $this->install('--webhooks');
        $check = $this->project->start([Project::server(), 'check', '--json']);

        $this->assertSame(0, $check->awaitEnd(), $check->output());
        $this->assertStringContainsString('"http://127.0.0.1:9/***"', $check->output());
        $this->assertStringContainsString('"member_removed"', $check->output());
    }

    public function test_without_a_program_and_an_address_it_says_so(): void
    {
        [$code, $output] = $this->install('--download');

        $this->assertSame(1, $code);
        $this->assertStringContainsString('Campanile has no public address yet', $output);
        // The rest is done.
        $this->assertFileExists("{$this->project->path}/config/campanile.php");
        $this->assertStringContainsString('REVERB_HOST=', $this->project->text('.env'));
    }

    public function test_a_release_is_installed_if_its_sum_is_the_expected_one(): void
    {
        [$url, $sum] = $this->release();
        $this->project->configure(['binary' => '', 'release' => ['url' => "{$url}/v{version}", 'version' => '1.2.3', 'sha256' => [ReleaseDownloader::target() => $sum]]]);
        [$code, $output] = $this->install('--download');

        $this->assertSame(0, $code, $output);
        $this->assertSame(self::PROGRAM, $this->project->text('storage/campanile/campanile'));
        $this->assertTrue(is_executable("{$this->project->path}/storage/campanile/campanile"));
        $this->assertSame("*\n", $this->project->text('storage/campanile/.gitignore'));
        $this->assertSame(['.', '..', '.gitignore', 'campanile'], scandir("{$this->project->path}/storage/campanile"));

        $start = $this->project->artisan(['reverb:start']);
        $start->awaitEnd();
        $this->assertStringContainsString('campanile 1.2.3', $start->output());
    }

    public function test_a_release_with_another_sum_is_not_installed(): void
    {
        [$url] = $this->release();
        [$code, $output] = $this->install('--download', "--url={$url}/v1.2.3", '--release=1.2.3', '--sha256='.str_repeat('0', 64));

        $this->assertSame(1, $code);
        $this->assertStringContainsString('was expected. Nothing was installed', $output);
        $this->assertSame(['.', '..', '.gitignore'], scandir("{$this->project->path}/storage/campanile"));
    }

    public function test_without_a_configured_sum_that_of_the_release_is_verified(): void
    {
        [$url, $sum] = $this->release();
        [$code, $output] = $this->install('--download', "--url={$url}/v1.2.3", '--release=1.2.3');
        $this->assertSame(0, $code, $output);
        $this->assertStringContainsString($sum, $output);

        $sums = $this->project->text('public/v1.2.3/SHA256SUMS');
        file_put_contents("{$this->project->path}/public/v1.2.3/SHA256SUMS", str_replace($sum, strrev($sum), $sums));
        unlink("{$this->project->path}/storage/campanile/campanile");
        [$code, $output] = $this->install('--download', "--url={$url}/v1.2.3", '--release=1.2.3');
        $this->assertSame(1, $code);
        $this->assertStringContainsString('was expected. Nothing was installed', $output);
        $this->assertFileDoesNotExist("{$this->project->path}/storage/campanile/campanile");

        file_put_contents("{$this->project->path}/public/v1.2.3/SHA256SUMS", "{$sum}  another.tar.gz\n");
        [$code, $output] = $this->install('--download', "--url={$url}/v1.2.3", '--release=1.2.3');
        $this->assertSame(1, $code);
        $this->assertStringContainsString('does not list campanile-1.2.3-', $output);
    }

    public function test_a_sum_from_an_address_that_others_can_change_is_not_read(): void
    {
        [$code, $output] = $this->install('--download', '--url=http://releases.invalid', '--release=1.2.3');

        $this->assertSame(1, $code);
        $this->assertStringContainsString('must begin with https://', $output);
    }

    public function test_a_program_that_does_not_run_here_is_not_installed(): void
    {
        [$url, $sum] = $this->release("#!/bin/sh\nexit 1\n");
        [$code, $output] = $this->install('--download', "--url={$url}/v1.2.3", '--release=1.2.3', "--sha256={$sum}");

        $this->assertSame(1, $code);
        $this->assertStringContainsString('does not run on this machine', $output);
        $this->assertFileDoesNotExist("{$this->project->path}/storage/campanile/campanile");
    }

    public function test_a_release_that_is_missing_is_reported(): void
    {
        [$url, $sum] = $this->release();
        [$code, $output] = $this->install('--download', "--url={$url}/v1.2.3", '--release=9.9.9', "--sha256={$sum}");

        $this->assertSame(1, $code);
        $this->assertStringContainsString('was answered with status 404', $output);
    }

    public function test_targets_are_those_that_releases_have(): void
    {
        $this->assertSame('x86_64-unknown-linux-musl', ReleaseDownloader::target('Linux', 'x86_64'));
        $this->assertSame('aarch64-unknown-linux-musl', ReleaseDownloader::target('Linux', 'aarch64'));
        $workflow = (string) file_get_contents(dirname(__DIR__, 3).'/.github/workflows/release.yml');
        preg_match_all('/target: (\S+-linux-musl)$/m', $workflow, $found);
        $this->assertSame(['x86_64-unknown-linux-musl', 'aarch64-unknown-linux-musl'], $found[1]);

        $this->expectException(ReleaseError::class);
        ReleaseDownloader::target('Darwin', 'arm64');
    }

    public function test_only_lines_that_a_change_is_about_are_changed(): void
    {
        $file = new EnvFile("export A=1\r\nB = \"two\" \r\nAB=3");
        $this->assertSame('1', $file->get('A'));
        $this->assertSame('two', $file->get('B'));
        $this->assertNull($file->get('C'));
        $this->assertFalse($file->add('A', 'x'));
        $this->assertTrue($file->add('C', '$1\\0'));
        $file->replace('A', '$2');

        $this->assertSame("export A=\$2\r\nB = \"two\" \r\nAB=3\r\nC=\$1\\0\r\n", $file->text());
    }

    /** @return array{int, string} */
    private function install(string ...$options): array
    {
        $process = $this->project->artisan(['campanile:install', '--no-interaction', ...$options]);

        return [$process->awaitEnd(), $process->output()];
    }

    /**
     * Serves a release of version 1.2.3 in the form of packaging/tarball.
     *
     * @return array{string, string} the address, and the sum of the tarball
     */
    private function release(string $program = self::PROGRAM): array
    {
        $folder = "{$this->project->path}/public/v1.2.3";
        $name = 'campanile-1.2.3-'.ReleaseDownloader::target();
        mkdir("{$folder}/{$name}", 0755, true);
        file_put_contents("{$folder}/{$name}/campanile", $program);
        file_put_contents("{$folder}/{$name}/README.md", 'other content');
        $this->assertSame(0, $this->project->start(['tar', '-C', $folder, '-czf', "{$folder}/{$name}.tar.gz", $name])->awaitEnd());
        $sum = hash_file('sha256', "{$folder}/{$name}.tar.gz");
        file_put_contents("{$folder}/SHA256SUMS", "{$sum}  {$name}.tar.gz\n");
        $process = $this->project->start([PHP_BINARY, '-S', '127.0.0.1:0', '-t', 'public']);

        return [$process->awaitOutput('#\((http://127\.0\.0\.1:\d+)\) started#')[1], $sum];
    }
}
