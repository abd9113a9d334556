<?php

namespace Campanile\Laravel\Events;

/**
 * The last connection of a user has left a presence channel.
 */
final class MemberRemoved extends UserEvent
{}
