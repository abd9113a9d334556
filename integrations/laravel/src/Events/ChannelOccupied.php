<?php

namespace Campanile\Laravel\Events;

/**
 * A channel has got its first subscriber.
 */
final class ChannelOccupied extends WebhookEvent
{}
