<?php

namespace Campanile\Laravel\Tests\Support;

use PHPUnit\Framework\TestCase;

/**
 * A test with a project.
 */
abstract class ProjectTestCase extends TestCase
{
    protected Project $project;

    protected function setUp(): void
    {
        $this->project = new Project;
    }

    protected function tearDown(): void
    {
        $this->project->delete();
    }
}
