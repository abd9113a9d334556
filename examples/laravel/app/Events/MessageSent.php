<?php

namespace App\Events;

use App\Models\Message;
use Illuminate\Broadcasting\InteractsWithSockets;
use Illuminate\Broadcasting\PrivateChannel;
use Illuminate\Contracts\Broadcasting\ShouldBroadcast;
use Illuminate\Contracts\Events\ShouldDispatchAfterCommit;
use Illuminate\Foundation\Events\Dispatchable;
use Illuminate\Queue\SerializesModels;

/**
 * A message was added to a conversation.
 *
 * The event is queued, and sent after the transaction: its receivers find the message in the database. If Campanile
 * answers with an error, no client has received the event, so a retry of the queue causes no duplicates.
 */
class MessageSent implements ShouldBroadcast, ShouldDispatchAfterCommit
{
    use Dispatchable;
    use InteractsWithSockets; // provides toOthers()
    use SerializesModels;

    /** The number of attempts of the queue, and the seconds between them. */
    public int $tries = 5;

    public array $backoff = [1, 5, 30];

    public function __construct(public Message $message)
    {
    }

    public function broadcastOn(): PrivateChannel
    {
        return new PrivateChannel('conversations.'.$this->message->conversation_id);
    }

    /** A name that is independent of PHP's namespaces: `.listen('.message.sent', …)`. */
    public function broadcastAs(): string
    {
        return 'message.sent';
    }

    /** Only what the page needs: the whole model may contain data that others must not see. */
    public function broadcastWith(): array
    {
        return [
            'id' => $this->message->id,
            'text' => $this->message->text,
            'at' => $this->message->created_at->toIso8601String(),
            'author' => ['id' => $this->message->user_id, 'name' => $this->message->user->name],
        ];
    }
}
