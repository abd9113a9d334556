<?php

namespace App\Http\Controllers;

use App\Events\MessageSent;
use App\Models\Conversation;
use App\Models\Message;
use Illuminate\Http\JsonResponse;
use Illuminate\Http\Request;
use Illuminate\Support\Facades\Gate;

class MessageController
{
    public function store(Request $request, Conversation $conversation): JsonResponse
    {
        Gate::authorize('participate', $conversation);
        $written = $request->validate(['text' => ['required', 'string', 'max:1000']]);

        $message = new Message($written);
        $message->user()->associate($request->user());
        $message->conversation()->associate($conversation);
        $message->save();

        // The author has the message in this answer. Echo sends its socket id with the request, in `X-Socket-ID`,
        // and Campanile excludes that connection: the author's other windows receive the event.
        $sent = new MessageSent($message);
        broadcast($sent)->toOthers();

        return response()->json($sent->broadcastWith(), JsonResponse::HTTP_CREATED);
    }
}
