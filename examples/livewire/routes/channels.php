<?php

use App\Models\User;
use Illuminate\Support\Facades\Broadcast;

// For `private-room.1` and `presence-room.1`. An array grants access and describes the member; null denies it.
Broadcast::channel('room.{id}', fn (User $user, int $id): ?array => ['id' => $user->id, 'name' => $user->name]);
