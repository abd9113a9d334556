<?php

namespace App\Events;

use Illuminate\Broadcasting\InteractsWithSockets;
use Illuminate\Broadcasting\PrivateChannel;
use Illuminate\Contracts\Broadcasting\ShouldBroadcastNow;

class MessageSent implements ShouldBroadcastNow
{
    use InteractsWithSockets; // provides toOthers()

    public function __construct(
        private readonly int $roomId,
        public readonly string $from,
        public readonly string $text,
    ) {
    }

    public function broadcastOn(): PrivateChannel
    {
        return new PrivateChannel("room.{$this->roomId}");
    }

    public function broadcastAs(): string
    {
        return 'message.sent';
    }
}
