<?php

namespace Campanile\Laravel\Events;

/**
 * A client has subscribed to a cache channel without an event: publish the current one.
 */
final class CacheMiss extends WebhookEvent
{}
