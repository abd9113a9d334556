<?php

namespace Campanile\Laravel\Events;

/**
 * A user has signed in with the first of its connections. The channel is that of events to the user.
 */
final class UserOnline extends UserEvent
{}
