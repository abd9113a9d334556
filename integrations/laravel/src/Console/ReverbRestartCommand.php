<?php

namespace Campanile\Laravel\Console;

use Symfony\Component\Console\Attribute\AsCommand;

/**
 * campanile:restart under the name that Reverb gives it.
 */
#[AsCommand(name: 'reverb:restart')]
class ReverbRestartCommand extends RestartCommand
{
    protected $signature = 'reverb:restart';
}
