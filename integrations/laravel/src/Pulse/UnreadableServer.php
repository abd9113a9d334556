<?php

namespace Campanile\Laravel\Pulse;

use RuntimeException;

/**
 * A server whose numbers cannot be read. The message says which and why.
 */
final class UnreadableServer extends RuntimeException {}
