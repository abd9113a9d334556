<?php

namespace Campanile\Laravel\Webhooks;

use Campanile\Laravel\Events;
use Campanile\Laravel\Events\WebhookEvent;

/**
 * Makes events of the entries of a webhook's body.
 */
final class EventFactory
{
    /** The text fields that each kind of event must have beside name and channel. */
    private const TEXTS = [
        'channel_occupied' => [],
        'channel_vacated' => [],
        'member_added' => ['user_id'],
        'member_removed' => ['user_id'],
        'client_event' => ['event', 'data', 'socket_id'],
        'cache_miss' => [],
        'subscription_count' => [],
        'user_online' => ['user_id'],
        'user_offline' => ['user_id'],
    ];

    public function __construct(private readonly string $appId, private readonly int $timeMs) {}

    /** Whether there is a class for events of this name. */
    public static function knows(mixed $name): bool
    {
        return is_string($name) && array_key_exists($name, self::TEXTS);
    }

    /** The event of an entry with a known name; null if a field is missing or of another type. */
    public function make(array $entry): ?WebhookEvent
    {
        foreach (['channel', ...self::TEXTS[$entry['name']]] as $field) {
            if (! is_string($entry[$field] ?? null)) {
                return null;
            }
        }
        $common = [$this->appId, $entry['channel'], $this->timeMs];

        return match ($entry['name']) {
            'channel_occupied' => new Events\ChannelOccupied(...$common),
            'channel_vacated' => new Events\ChannelVacated(...$common),
            'cache_miss' => new Events\CacheMiss(...$common),
            'member_added' => new Events\MemberAdded(...$common, userId: $entry['user_id']),
            'member_removed' => new Events\MemberRemoved(...$common, userId: $entry['user_id']),
            'user_online' => new Events\UserOnline(...$common, userId: $entry['user_id']),
            'user_offline' => new Events\UserOffline(...$common, userId: $entry['user_id']),
            'subscription_count' => is_int($entry['subscription_count'] ?? null)
                ? new Events\SubscriptionCount(...$common, count: $entry['subscription_count'])
                : null,
            'client_event' => new Events\ClientEvent(
                ...$common,
                event: $entry['event'],
                data: $entry['data'],
                socketId: $entry['socket_id'],
                userId: is_string($entry['user_id'] ?? null) ? $entry['user_id'] : null,
            ),
        };
    }
}
