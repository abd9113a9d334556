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
 * A message was written into a conversation.
 *
 * It goes through the queue, and after the transaction: whoever hears of the message finds it in the database. If
 * Campanile answers with an error, nobody has received the event, so the queue may try again without making doubles.
 */
class MessageSent implements ShouldBroadcast, ShouldDispatchAfterCommit
{
    use Dispatchable;
    use InteractsWithSockets; // brings toOthers()
    use SerializesModels;

    /** How often the queue tries, and the seconds between the tries. */
    public int $tries = 5;

    public array $backoff = [1, 5, 30];

    public function __construct(public Message $message)
    {
    }

    public function broadcastOn(): PrivateChannel
    {
        return new PrivateChannel('conversations.'.$this->message->conversation_id);
    }

    /** A name of its own keeps the page independent of PHP's namespaces: `.listen('.message.sent', …)`. */
    public function broadcastAs(): string
    {
        return 'message.sent';
    }

    /** Only what the page needs: the whole model may hold what others must not see. */
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
