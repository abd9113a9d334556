<?php

namespace App\Events;

use App\Models\Conversation;
use App\Models\User;
use Illuminate\Broadcasting\InteractsWithSockets;
use Illuminate\Broadcasting\PresenceChannel;
use Illuminate\Contracts\Broadcasting\ShouldBroadcastNow;
use Illuminate\Foundation\Events\Dispatchable;

/**
 * Somebody is typing, as the server says it.
 *
 * A page whispers this to the others without any request: see `resources/js/conversation.js`. This event is for
 * those who can't whisper, a bot for example. It does not wait in the queue: it is worth nothing in ten seconds.
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
