<?php

use App\Models\Conversation;
use App\Models\User;
use Illuminate\Http\Request;
use Illuminate\Support\Facades\Broadcast;

// Access to channels. The names have no `private-`, `private-encrypted-` or `presence-`: a rule applies to all of them.

// What is for one user, on all of the user's devices: `private-App.Models.User.3`. Laravel sends notifications there, so without
// this rule, pages that listen for notifications get 403.
Broadcast::channel('App.Models.User.{id}', fn (User $user, string $id): bool => (string) $user->getKey() === $id);

// A conversation: `private-conversations.7` carries its messages, `presence-conversations.7` its list of members. An
// array grants access and describes the member; null, false or an empty answer denies it with 403.
Broadcast::channel('conversations.{conversation}', function (User $user, Conversation $conversation): ?array {
    if (! $conversation->hasParticipant($user)) {
        return null;
    }

    // All participants receive this, so it must not contain secrets. Campanile accepts up to 1 KiB of it by default.
    return ['id' => $user->getKey(), 'name' => $user->name];
});

// Sign-in, by which Campanile knows the user of a connection: `sendToUser`, watchlists and `terminateUserConnections` of
// Pusher's SDK need it. This adds the route /broadcasting/user-auth; `null` is answered with 403.
Broadcast::userRoutes();
Broadcast::resolveAuthenticatedUserUsing(function (Request $request): ?array {
    $user = $request->user();

    return $user === null ? null : ['id' => (string) $user->getKey(), 'user_info' => ['name' => $user->name]];
});
