<?php

namespace App\Events;

use App\Models\Conversation;
use App\Models\User;
use Illuminate\Broadcasting\InteractsWithSockets;
use Illuminate\Broadcasting\PresenceChannel;
use Illuminate\Contracts\Broadcasting\ShouldBroadcastNow;
use Illuminate\Foundation\Events\Dispatchable;

/**
 * A user is typing, as published by the server.
 *
 * Pages whisper this to each other without a request: see `resources/js/conversation.js`. This event is for
 * senders that can't whisper, such as a bot. It is not queued, since it is outdated after seconds.
 */
class UserTyping implements ShouldBroadcastNow
{
    use Dispatchable;
    use InteractsWithSockets;

    public function __construct(
        private readonly Conversation $conversation,
        private readonly User $user,
    ) {
    }

    public function broadcastOn(): PresenceChannel
    {
        return new PresenceChannel('conversations.'.$this->conversation->getKey());
    }

    public function broadcastAs(): string
    {
        return 'user.typing';
    }

    public function broadcastWith(): array
    {
        return ['id' => $this->user->getKey(), 'name' => $this->user->name];
    }
}
