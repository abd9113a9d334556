<?php

use App\Models\Conversation;
use App\Models\User;
use Illuminate\Support\Facades\Broadcast;

// Who may enter which channel. Names stand here without `private-` and `presence-`: a rule is for both.

// A conversation: `private-conversations.7` carries its messages, `presence-conversations.7` tells who is here. An
// array lets in and says who it is; null, false or an empty answer keeps out with 403.
Broadcast::channel('conversations.{conversation}', function (User $user, Conversation $conversation): ?array {
    if (! $conversation->participants()->whereKey($user->getKey())->exists()) {
        return null;
    }

    // All participants see this, so it is no place for secrets. Campanile takes up to 1 KiB of it by default.
    return ['id' => $user->getKey(), 'name' => $user->name];
});

// What concerns one user, on all of the user's devices: `private-users.3`.
Broadcast::channel('users.{id}', fn (User $user, string $id): bool => (string) $user->getKey() === $id);
