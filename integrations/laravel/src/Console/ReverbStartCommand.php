<?php

namespace Campanile\Laravel\Console;

use Symfony\Component\Console\Attribute\AsCommand;

/**
 * campanile:start under the name that Reverb gives it.
 */
#[AsCommand(name: 'reverb:start')]
class ReverbStartCommand extends StartCommand
{
    protected $signature = 'reverb:start'.self::OPTIONS;
}
