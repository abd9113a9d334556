<?php

namespace Campanile\Laravel\Events;

/**
 * A user has joined a presence channel with the first of its connections.
 */
final class MemberAdded extends UserEvent
{}
