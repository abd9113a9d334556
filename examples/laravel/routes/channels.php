<?php

use App\Models\Conversation;
use App\Models\User;
use Illuminate\Support\Facades\Broadcast;

// Access to channels. The names have no `private-` or `presence-`: a rule applies to both.

// A conversation: `private-conversations.7` carries its messages, `presence-conversations.7` its list of members. An
// array grants access and describes the member; null, false or an empty answer denies it with 403.
Broadcast::channel('conversations.{conversation}', function (User $user, Conversation $conversation): ?array {
    if (! $conversation->participants()->whereKey($user->getKey())->exists()) {
        return null;
    }

    // All participants receive this, so it must not contain secrets. Campanile accepts up to 1 KiB of it by default.
    return ['id' => $user->getKey(), 'name' => $user->name];
});

// The events of one user, on all of the user's devices: `private-users.3`.
Broadcast::channel('users.{id}', fn (User $user, string $id): bool => (string) $user->getKey() === $id);
