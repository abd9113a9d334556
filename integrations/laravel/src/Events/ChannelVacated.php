<?php

namespace Campanile\Laravel\Events;

/**
 * The last subscriber of a channel has left.
 */
final class ChannelVacated extends WebhookEvent
{}
