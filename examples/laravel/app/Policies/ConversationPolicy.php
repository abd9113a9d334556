<?php

namespace App\Policies;

use App\Models\Conversation;
use App\Models\User;

/** Laravel finds this class by its name. */
class ConversationPolicy
{
    public function participate(User $user, Conversation $conversation): bool
    {
        return $conversation->hasParticipant($user);
    }
}
