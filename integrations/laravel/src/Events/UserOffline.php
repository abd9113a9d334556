<?php

namespace Campanile\Laravel\Events;

/**
 * The last connection of a user has ended. The channel is that of events to the user.
 */
final class UserOffline extends UserEvent
{}
