<?php

namespace Campanile\Laravel\Install;

use RuntimeException;

/**
 * A release that was not installed. The message says why.
 */
final class ReleaseError extends RuntimeException {}
